import type { KernelSet } from "../kernel_set.js";

export const movement: Partial<KernelSet> = {};
