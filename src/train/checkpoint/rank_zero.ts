import type { Communicator } from "../../base/communicator.js";
import { StateError } from "../../base/errors.js";
import { errorOf, errorText, onAllRanks } from "../../distributed/together.js";

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
  if (first && !outcome) throw new StateError({ rule: "Rank 0 has an outcome to share", got: "none" });
  const own = outcome && ("bytes" in outcome ? outcome.bytes : asBytes(errorText(outcome.error)));
  const head = Float64Array.of(outcome && "error" in outcome ? 1 : 0, own?.length ?? 0);
  communicator.broadcast(head, 0);
  const bytes = first ? own! : new Uint8Array(head[1]!);
  for (let at = 0; at < bytes.length; at += LARGEST_MESSAGE) {
    communicator.broadcast(bytes.subarray(at, at + LARGEST_MESSAGE), 0);
  }
  if (head[0] === 0) return bytes;
  const error = first ? (outcome as { error: unknown }).error : errorOf(JSON.parse(new TextDecoder().decode(bytes)));
  throw typeof error === "object" && error !== null ? onAllRanks(error) : error;
}

const asBytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
