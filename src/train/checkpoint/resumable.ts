import { type Communicator, loopback } from "../../base/communicator.js";
import { onRankZero } from "../../distributed/together.js";
import { readWhole } from "../../io/files/atomic_file.js";
import { stateIn } from "./checkpoint.js";
import { type FoundCheckpoint, newestWhole, warnOfSkipped } from "./find_checkpoint.js";

/** A checkpoint as findCheckpoint gives it, with what is in it. */
export interface Resumable extends FoundCheckpoint {
  readonly state: Record<string, unknown>;
}

/** A message has less than 2^31 elements. */
const LARGEST_MESSAGE = 2 ** 30;

/**
 * What to go on from: the file `path`, or with `newest` what findCheckpoint(path) finds, null where that is nothing. Rank 0 reads the file and
 * gives it to all, so that all go on from the same one and only its machine needs the disk. The tensors in the state belong to
 * the scope that is open. Throws as findCheckpoint does, on every rank. Collective.
 */
export function readResumable(path: string, newest: boolean, communicator: Communicator = loopback): Resumable | null {
  let bytes: Uint8Array = new Uint8Array();
  const found = onRankZero(communicator, () => {
    const read = newest ? newestWhole(path) : exactly(path);
    if (!read) return null;
    warnOfSkipped(read);
    bytes = read.bytes;
    return { path: read.path, skipped: read.skipped, length: bytes.length };
  });
  if (!found) return null;
  if (communicator.rank > 0) bytes = new Uint8Array(found.length);
  for (let at = 0; at < bytes.length; at += LARGEST_MESSAGE) {
    communicator.broadcast(bytes.subarray(at, at + LARGEST_MESSAGE), 0);
  }
  const state = stateIn(bytes, found.path);
  const step = typeof state.step === "number" ? state.step : null;
  return { path: found.path, step, skipped: found.skipped, state };
}

const exactly = (path: string) => ({ path, step: null, skipped: [], bytes: readWhole(path, "A checkpoint") });
