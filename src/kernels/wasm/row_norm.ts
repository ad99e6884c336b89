import type { KernelSet } from "../kernel_set.js";

export const rowNorm: Partial<KernelSet> = {};
