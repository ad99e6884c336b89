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

/** Length as a double, then the type and the call as text. */
export const HEADER_BYTES = 64;
const TEXT_BYTES = HEADER_BYTES - 8;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function writeHeader(buffer: ArrayBufferLike, at: number, { call, type, length }: Header): void {
  new Float64Array(buffer, at, 1)[0] = length;
  const text = new Uint8Array(buffer, at + 8, TEXT_BYTES).fill(0);
  text.set(encoder.encode(`${type} ${call}`).subarray(0, TEXT_BYTES));
}

export function readHeader(buffer: ArrayBufferLike, at: number): Header {
  const text = textAt(buffer, at + 8, TEXT_BYTES);
  const space = text.indexOf(" ");
  const length = new Float64Array(buffer, at, 1)[0]!;
  return { type: text.slice(0, space) as TypeName, call: text.slice(space + 1), length };
}

/** Text of at most so many bytes, which ends before the first that is 0. */
export function textAt(buffer: ArrayBufferLike, at: number, bytes: number): string {
  // Decoders refuse shared memory.
  const copy = new Uint8Array(buffer, at, bytes).slice();
  const end = copy.indexOf(0);
  return decoder.decode(end < 0 ? copy : copy.subarray(0, end));
}

/** "allReduce sum of float32 [12]"; the length where it must be the same on all ranks. */
export const describeCall = ({ call, type, length }: Header, sameLength: boolean): string =>
  call === "barrier" ? call : `${call} of ${type}${sameLength ? ` [${length}]` : ""}`;

/** The error for calls, one of each rank, that do not fit together; null where they do. Every rank sees the same headers, so that all throw or none does. */
export function differing(headers: readonly Header[], sameLength: boolean): CommunicationError | null {
  const calls = headers.map((header) => describeCall(header, sameLength));
  if (calls.every((c) => c === calls[0])) return null;
  return new CommunicationError({
    rule: "All ranks make the same calls in the same order, with data of one type and, but for allGather, one length",
    got: calls.map((c, r) => `${c} on rank ${r}`).join(", "),
    fix: "Let no rank skip a layer or a batch; a rank without data takes part with an empty batch",
  });
}
