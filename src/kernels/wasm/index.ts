import type { KernelSet } from "../kernel_set.js";
import { elementwise } from "./elementwise.js";

/** float32 kernels in WebAssembly SIMD, split over threads by shape. */
export const wasm: Partial<KernelSet> = { ...elementwise };
