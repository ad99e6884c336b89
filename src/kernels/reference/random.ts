import type { KernelSet } from "../kernel_set.js";

export const random: Partial<KernelSet> = {};
