import type { KernelSet } from "../kernel_set.js";

export const activation: Partial<KernelSet> = {};
