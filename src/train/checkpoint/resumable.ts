import { type Communicator, loopback } from "../../base/communicator.js";
import { readWhole } from "../../io/files/atomic_file.js";
import { stateIn } from "./checkpoint.js";
import { type FoundCheckpoint, newestWhole, warnOfSkipped } from "./find_checkpoint.js";
import { type Outcome, shareOutcome } from "./rank_zero.js";

/** A checkpoint as findCheckpoint gives it, with what is in it. */
export interface Resumable extends FoundCheckpoint {
  readonly state: Record<string, unknown>;
}

/**
 * What to go on from: the file `path`, or with `newest` what findCheckpoint(path) finds, null where that is nothing. Rank 0 reads the file and
 * gives it to all, so that all go on from the same one and only its machine needs the disk. The tensors in the state belong to
 * the scope that is open. Throws as findCheckpoint does. Collective.
 */
export function readResumable(path: string, newest: boolean, communicator: Communicator = loopback): Resumable | null {
  let found: (FoundCheckpoint & { readonly bytes: Uint8Array }) | null = null;
  let outcome: Outcome | null = null;
  if (communicator.rank === 0) {
    try {
      found = newest ? newestWhole(path) : { path, step: null, skipped: [], bytes: readWhole(path, "A checkpoint") };
      if (found) warnOfSkipped(found);
      outcome = { bytes: asBytes(found && { ...found, bytes: null }) };
    } catch (error) {
      outcome = { error };
    }
  }
  const about = fromBytes(shareOutcome(communicator, outcome)) as FoundCheckpoint | null;
  if (!about) return null;
  const state = stateIn(shareOutcome(communicator, found && { bytes: found.bytes }), about.path);
  const { step } = state;
  return { path: about.path, skipped: about.skipped, step: typeof step === "number" ? step : null, state };
}

const asBytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const fromBytes = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes));
