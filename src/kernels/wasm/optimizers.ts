import type { KernelSet } from "../kernel_set.js";

export const optimizers: Partial<KernelSet> = {};
