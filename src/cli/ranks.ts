import { availableParallelism } from "node:os";
import type { Communicator } from "../base/communicator.js";
import { getThreads } from "../kernels/threads/pool.js";
import type { Settings } from "./experiment.js";

/** Threads of each rank: its share of the cores of the machine that it is on. All ranks call it. */
export const threadsOfRank = (communicator: Communicator): number =>
  Math.max(1, Math.floor(availableParallelism() / communicator.splitByNode().size));

/** How the ranks work together, on standard error; nothing where there is one. */
export function announceRanks({ rank, size }: Communicator, { norm, syncBatchNorm, batchSize }: Settings): void {
  if (size === 1 || rank > 0) return;
  const threads = getThreads();
  const over = syncBatchNorm ? "over all ranks (SyncBatchNorm)" : "of each rank's own part";
  const statistics = norm === "batch" ? `; batch normalization takes statistics ${over}` : "";
  process.stderr.write(
    `${size} ranks, ${threads} thread${threads === 1 ? "" : "s"} each, share batches of ${batchSize}${statistics}\n`,
  );
}
