import { bytesPerElement } from "../base/dtype.js";
import type { Tensor } from "./tensor.js";

export type Phase = "forward" | "backward" | "update";

/** Told where a step is. Calls come in pairs and nest as the ops do. */
export interface Probe {
  enter(op: string, phase: Phase): void;
  /** `bytes`: of all tensors that went in or came out, each counted once. */
  leave(bytes: number): void;
}

/** Null while nobody profiles, which is all that an op then spends on it. */
export let probe: Probe | null = null;

/** Sets the probe and returns the one there was. */
export function setProbe(to: Probe | null): Probe | null {
  const before = probe;
  probe = to;
  return before;
}

/** Bytes of the tensors in a list or in the values of an object. */
export function bytesOf(tensors: object): number {
  let total = 0;
  for (const t of Object.values(tensors) as (Tensor | null | undefined)[]) {
    if (t) total += t.size * bytesPerElement[t.dtype];
  }
  return total;
}
