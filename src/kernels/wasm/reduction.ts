import type { KernelSet } from "../kernel_set.js";

export const reduction: Partial<KernelSet> = {};
