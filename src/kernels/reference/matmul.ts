import type { KernelSet } from "../kernel_set.js";

export const matmul: Partial<KernelSet> = {};
