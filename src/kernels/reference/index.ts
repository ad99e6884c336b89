import type { KernelSet } from "../kernel_set.js";
import { elementwise } from "./elementwise.js";

/** Plain loops in double precision over whatever type the slots have: the oracle, and the float64 backend. */
export const reference: KernelSet = { ...elementwise } as KernelSet;
