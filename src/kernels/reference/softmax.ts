import type { KernelSet } from "../kernel_set.js";

export const softmax: Partial<KernelSet> = {};
