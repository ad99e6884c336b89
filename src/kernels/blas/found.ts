import type { KernelSet } from "../kernel_set.js";
import type { NativeContext } from "../threads/worker.js";
import type { Kernel } from "../wasm/module.js";

/** A BLAS library that is loaded, with what each thread needs to load it too. */
export interface Found {
  /** Path of the loader of foreign functions. */
  readonly koffi: string;
  readonly library: string;
  readonly require: (name: string) => unknown;
  /** What the library says of itself. */
  readonly version: string;
  /** It is one that is known to be fast. */
  readonly named: boolean;
  /** The kernels that ops call, and the text from which each thread makes what calls the library. */
  readonly kernels: Pick<KernelSet, "matmul" | "conv" | "convInputGrad" | "convWeightGrad">;
  readonly make: (context: NativeContext) => Kernel[];
}

export interface NotFound {
  readonly reason: string;
}
