import { UnsupportedKernel } from "../base/errors.js";
import type { KernelSet } from "./kernel_set.js";
import { reference } from "./reference/index.js";
import { currentTape, recordCall } from "./tape.js";
import { wasm } from "./wasm/index.js";

type AnyKernel = (...args: unknown[]) => void;

const table: Record<string, AnyKernel> = {};

/**
 * The kernels that ops call: the WASM kernel where there is one, else reference. A kernel answers for itself whether
 * it can take a call; only its typed "unsupported" leads to the fallback, every other error is a defect and passes.
 */
export const kernels: KernelSet = table as unknown as KernelSet;

/** Puts `first` before the WASM kernels, in the place of what was there before; the same fallback holds. */
export function preferKernels(first: Partial<KernelSet>): void {
  for (const [name, slow] of Object.entries(reference) as [string, AnyKernel][]) {
    const [fast, faster] = [wasm, first].map((set) => (set as Record<string, AnyKernel | undefined>)[name]);
    const usual = fast ? inTurn(fast, slow) : slow;
    table[name] = recorded(faster ? inTurn(faster, usual) : usual);
  }
}

/** Nine parameters are the most that a kernel has; a list of them would be made anew for each call. */
function inTurn(fast: AnyKernel, slow: AnyKernel): AnyKernel {
  return (a, b, c, d, e, f, g, h, i) => {
    try {
      fast(a, b, c, d, e, f, g, h, i);
    } catch (error) {
      if (!(error instanceof UnsupportedKernel)) throw error;
      slow(a, b, c, d, e, f, g, h, i);
    }
  };
}

/** A kernel whose calls are written down while a tape runs. */
function recorded(kernel: AnyKernel): AnyKernel {
  return (a, b, c, d, e, f, g, h, i) => {
    if (currentTape() === null) kernel(a, b, c, d, e, f, g, h, i);
    else recordCall([a, b, c, d, e, f, g, h, i], () => kernel(a, b, c, d, e, f, g, h, i));
  };
}

preferKernels({});
