import { UnsupportedKernel } from "../base/errors.js";
import type { KernelSet } from "./kernel_set.js";
import { reference } from "./reference/index.js";
import { wasm } from "./wasm/index.js";

type AnyKernel = (...args: unknown[]) => void;

/**
 * The kernels that ops call: the WASM kernel where there is one, else reference. A kernel answers for itself whether
 * it can take a call; only its typed "unsupported" leads to the fallback, every other error is a defect and passes.
 */
function dispatched(): KernelSet {
  const table: Record<string, AnyKernel> = {};
  for (const [name, slow] of Object.entries(reference) as [string, AnyKernel][]) {
    const fast = (wasm as Record<string, AnyKernel | undefined>)[name];
    // Nine parameters are the most that a kernel has; a list of them would be made anew for each call.
    table[name] = fast
      ? (a, b, c, d, e, f, g, h, i) => {
          try {
            fast(a, b, c, d, e, f, g, h, i);
          } catch (error) {
            if (!(error instanceof UnsupportedKernel)) throw error;
            slow(a, b, c, d, e, f, g, h, i);
          }
        }
      : slow;
  }
  return table as unknown as KernelSet;
}

export const kernels: KernelSet = dispatched();
