import { bytesPerElement } from "../base/dtype.js";
import type { Tensor } from "./tensor.js";

export type Phase = "forward" | "backward" | "update";

/** What an op computed from what; tensors that were made on the way are gone. */
export interface OpCall {
  readonly inputs: Readonly<Record<string, Tensor | null | undefined>>;
  readonly options: unknown;
  readonly out: Tensor;
  /** Results beside `out`, as the op defines them. */
  readonly extra: unknown;
}

/** Told where a step is. Calls come in pairs and nest as the ops do. */
export interface Probe {
  /** The ops are written down to be run elsewhere with other numbers: shapes and choices must not follow from numbers. */
  readonly traces?: true;
  enter(op: string, phase: Phase): void;
  /** `bytes`: of all tensors that went in or came out, each counted once. `call`: of an op's forward that has not thrown. */
  leave(bytes: number, call?: OpCall): void;
}

/** Null while nobody profiles or traces, which is all that an op then spends on it. */
export let probe: Probe | null = null;

/** Whether ops are written down to be run elsewhere. */
export const isTraced = (): boolean => probe?.traces === true;

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
