import type { KernelSet } from "../kernel_set.js";

export const columnNorm: Partial<KernelSet> = {};
