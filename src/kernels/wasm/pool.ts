import type { KernelSet } from "../kernel_set.js";

export const pool: Partial<KernelSet> = {};
