import type { KernelSet } from "../kernel_set.js";

export const conv: Partial<KernelSet> = {};
