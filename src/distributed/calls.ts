import type { Elements } from "../base/communicator.js";
import { CommunicationError } from "../base/errors.js";

/** What ranks may hand to each other. */
export const arrays = { float64: Float64Array, float32: Float32Array, int32: Int32Array, uint8: Uint8Array } as const;
export type TypeName = keyof typeof arrays;

export const typeOf = (data: Elements): TypeName =>
  data instanceof Float32Array
    ? "float32"
    : data instanceof Float64Array
      ? "float64"
      : data instanceof Int32Array
        ? "int32"
        : "uint8";

/** What a rank says it does. */
export interface Header {
  readonly call: string;
  readonly type: TypeName;
  readonly length: number;
}

/** The error for calls, one of each rank, that do not fit together; null where they do. Every rank sees the same headers, so that all throw or none does. */
export function differing(headers: readonly Header[], sameLength: boolean): CommunicationError | null {
  const say = ({ call, type, length }: Header) =>
    call === "barrier" ? call : `${call} of ${type}${sameLength ? ` [${length}]` : ""}`;
  const calls = headers.map(say);
  if (calls.every((c) => c === calls[0])) return null;
  return new CommunicationError({
    rule: "All ranks make the same calls in the same order, with data of one type and, but for allGather, one length",
    got: calls.map((c, r) => `${c} on rank ${r}`).join(", "),
    fix: "Let no rank skip a layer or a batch; a rank without data takes part with an empty batch",
  });
}
