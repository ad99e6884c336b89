import { findBlas } from "#blas";
import { OptionError } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import { preferKernels } from "../dispatch.js";
import type { KernelSet, MatmulPlan } from "../kernel_set.js";
import { ARGS_ADDRESS } from "../threads/control.js";
import { setNativeKernels } from "../threads/pool.js";
import { matmul as wasmMatmul } from "../wasm/matmul.js";
import { kernelNames, kernelTable } from "../wasm/module.js";
import type { Found, NotFound } from "./found.js";

/** Which BLAS library multiplies matrices, or null, and one line that says what was found or why nothing is used. */
export interface BlasInfo {
  readonly library: string | null;
  readonly message: string;
}

let current: BlasInfo = { library: null, message: "BLAS: not used" };

/** What the last `setBlas` came to. */
export const getBlas = (): BlasInfo => current;

/**
 * Lets a native BLAS library compute matrix products and convolutions, in Node. "auto" looks for OpenBLAS (on macOS for
 * Accelerate first) by the usual names, "none" goes back to WebAssembly, anything else is the name or path of a library with
 * cblas_sgemm and cblas_dgemm. Needs the package koffi (`npm install koffi`), which Evenkeel does not install by itself.
 *
 * Tensors stay where they are: the library works on the heap. It is called on Evenkeel's own threads, so `setThreads`
 * holds for it too, and its own threads are switched off, for the whole process. float64 is multiplied natively as well.
 * Small products, grouped convolutions and others that gain nothing stay with WebAssembly.
 *
 * Results then depend on the library and the processor: BLAS is exempt from the promise of equal bits everywhere,
 * and for any number of threads. Training twice on one machine with one setting of threads still repeats itself where
 * the library does.
 *
 * On Linux with AVX-512, OPENBLAS_CORETYPE is set to SKYLAKEX while OpenBLAS loads, unless the environment has it already:
 * OpenBLAS 0.3.21 takes newer processors for ones without AVX-512, at half the speed. It only counts if nothing else in
 * the process has loaded OpenBLAS before.
 *
 * Returns what was found. Where nothing can be used, says so on the console and goes on with WebAssembly; throws
 * only OptionError, when the choice is no text.
 */
export function setBlas(choice = "auto"): BlasInfo {
  if (typeof choice !== "string" || choice.trim() === "") {
    const rule = 'setBlas takes "auto", "none", or the name or path of a BLAS library';
    throw new OptionError({ rule, got: JSON.stringify(choice) ?? "undefined" });
  }
  preferKernels({});
  current = choice === "none" ? { library: null, message: "BLAS: not used" } : use(findBlas(choice), choice);
  return current;
}

function use(found: Found | NotFound, choice: string): BlasInfo {
  if ("reason" in found) return unused(found.reason);
  const data = { koffi: found.koffi, library: found.library };
  const exports = Object.fromEntries(kernelNames.map((name, i) => [name, kernelTable[i]!]));
  const context = { memory: heap.memory, argsAddress: ARGS_ADDRESS, exports, data, require: found.require };
  setNativeKernels({ source: found.make.toString(), data }, found.make(context));
  if (choice === "auto" && !found.named && !isFaster(found.kernels.matmul)) {
    return unused(`${found.library} multiplies slower than WebAssembly does: apt install libopenblas0`);
  }
  preferKernels(found.kernels);
  return { library: found.library, message: `BLAS: ${found.library} (${found.version})` };
}

function unused(reason: string): BlasInfo {
  const message = `BLAS: not used, ${reason}`;
  console.warn(`evenkeel: ${message}`);
  return { library: null, message };
}

/** A plain reference BLAS goes by the same names as a fast one, and is several times slower than the WASM kernels. */
function isFaster(multiply: KernelSet["matmul"]): boolean {
  const n = 128;
  const block = heap.allocate(3 * n * n * 4);
  const slots = [0, 1, 2].map(
    (i): Slot => ({ ptr: heap.address(block) + i * n * n * 4, length: n * n, dtype: "float32" }),
  );
  const shape = { batch: 1, m: n, n, k: n, transposeA: false, transposeB: false };
  const plan: MatmulPlan = { ...shape, aBatchStride: 0, bBatchStride: 0, bias: null };
  const [a, b, y] = slots as [Slot, Slot, Slot];
  heap.view(a).fill(1);
  heap.view(b).fill(1);
  const best = (kernel: KernelSet["matmul"]) => {
    const times = Array.from({ length: 8 }, () => {
      const start = performance.now();
      kernel(a, b, y, plan);
      return performance.now() - start;
    });
    return Math.min(...times);
  };
  try {
    return best(multiply) < best(wasmMatmul.matmul);
  } finally {
    heap.free(block);
  }
}
