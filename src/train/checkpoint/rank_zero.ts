import type { Communicator } from "../../base/communicator.js";
import * as errors from "../../base/errors.js";

/** What rank 0 did for all: bytes that it gives to the others, or what it threw. */
export type Outcome = { readonly bytes: Uint8Array } | { readonly error: unknown };

/** A message has less than 2^31 elements. */
const LARGEST_MESSAGE = 2 ** 30;

/**
 * Gives every rank the outcome of rank 0; on the others `outcome` is not looked at. Where it is an error every rank throws it, of
 * the same kind and text, so that none goes on alone. Collective.
 */
export function shareOutcome(communicator: Communicator, outcome: Outcome | null): Uint8Array {
  const first = communicator.rank === 0;
  if (first && !outcome) throw new errors.StateError({ rule: "Rank 0 has an outcome to share", got: "none" });
  const own = outcome && ("bytes" in outcome ? outcome.bytes : describe(outcome.error));
  const head = Float64Array.of(outcome && "error" in outcome ? 1 : 0, own?.length ?? 0);
  communicator.broadcast(head, 0);
  const bytes = first ? own! : new Uint8Array(head[1]!);
  for (let at = 0; at < bytes.length; at += LARGEST_MESSAGE) {
    communicator.broadcast(bytes.subarray(at, at + LARGEST_MESSAGE), 0);
  }
  if (head[0] === 0) return bytes;
  throw first ? (outcome as { error: unknown }).error : revive(bytes);
}

const describe = (error: unknown): Uint8Array => {
  const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
  return new TextEncoder().encode(JSON.stringify({ name, message }));
};

function revive(bytes: Uint8Array): Error {
  const { name, message } = JSON.parse(new TextDecoder().decode(bytes)) as { name: string; message: string };
  const Kind = (errors as unknown as Record<string, new (message: string) => Error>)[name] ?? Error;
  return new Kind(message);
}
