import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { type Communicator, loopback } from "../base/communicator.js";
import { togetherAsync } from "../distributed/together.js";
import { getThreads, setThreads } from "../kernels/threads/pool.js";
import { initWebGPU } from "../kernels/webgpu/index.js";
import type { DeviceName } from "../memory/device.js";
import { dataNames } from "./datasets.js";
import { defaults } from "./experiment.js";
import { threadsOfRank } from "./ranks.js";
import { count, oneOf, rate, threads, wholeNumber } from "./values.js";

export const deviceNames = ["cpu", "webgpu"] as const;

/** The options that `train` and `compare` share. */
export function addSharedOptions(command: Command): Command {
  const { data, epochs, batchSize, lr, seed } = defaults;
  return command
    .option("--data <name>", `data to train on: ${dataNames.join(", ")}`, oneOf(dataNames), data)
    .option("--data-dir <folder>", "where the files of mnist or cifar10 are")
    .option("--epochs <n>", "passes over the training data", count, epochs)
    .option("--batch-size <n>", "samples in a batch, of all ranks together", count, batchSize)
    .option("--accumulate-steps <n>", "batches to one step, with the gradient of all of them joined", count, 1)
    .option("--lr <rate>", "highest learning rate; it rises first and then falls along a cosine", rate, lr)
    .option("--seed <n>", "seed of everything random; equal seeds give equal bits", wholeNumber, seed)
    .option(
      "--threads <n>",
      `threads to compute on (default: the ${availableParallelism()} of this machine, shared by its ranks)`,
      threads,
    )
    .option("--no-sync-batch-norm", "under mpirun: batch statistics of each rank's own part, not of the whole batch")
    .option("--device <name>", `where to compute: ${deviceNames.join(", ")}`, oneOf(deviceNames), "cpu")
    .option("--out <folder>", "where results go (default: runs/<time>)")
    .option("--json", "end with one line of JSON on standard output");
}

/**
 * Sets threads and finds the device; returns a line that tells when and on what the command runs. All ranks call it. Throws
 * DeviceError where there is no such device.
 */
export async function setUp(
  { threads, device }: { threads?: number; device: DeviceName },
  communicator: Communicator = loopback,
): Promise<string> {
  const gpu = await togetherAsync(communicator, async () => (device === "webgpu" ? await initWebGPU() : null));
  const { size } = communicator;
  const used = threads ?? (size > 1 ? threadsOfRank(communicator) : undefined);
  if (used !== undefined) setThreads(used);
  const n = getThreads();
  const now = new Date().toISOString().slice(0, 16).replace("T", " ");
  const ranks = size > 1 ? `${size} ranks with ` : "";
  const cpu = `${process.platform} ${process.arch}, ${ranks}${n} thread${n === 1 ? "" : "s"}`;
  const on = gpu ? `, webgpu: ${gpu.description || gpu.device || gpu.vendor}` : "";
  return `${now} UTC, Node ${process.version} on ${cpu}${on}`;
}
