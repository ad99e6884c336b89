// Goes on with another number of ranks than before: the same batches, losses as near to the undisturbed run as rounding lets them. Needs dist.
// Run: node tests/training/crash_ranks.mjs --mpi openmpi
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { argumentsOf, launch, resultOf } from "./crash/launch.mjs";

const { mpi, changes } = argumentsOf({ mpi: "openmpi", changes: "2-4,4-1,1-2" });
const CUT = 20;

const run = async (ranks, folder, options) => {
  const ended = await launch({
    mpi: ranks === 1 ? "none" : mpi,
    ranks,
    folder,
    options: { dropout: false, ...options },
  }).ended;
  const result = resultOf(ended);
  if (!result) throw new Error(`${ranks} ranks: exit code ${ended.code}: ${ended.err}`);
  return { ...result, err: ended.err };
};

const inFolder = async (body) => {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-crash-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
};

const undisturbed = await inFolder((folder) => run(1, folder, {}));
for (const change of changes.split(",")) {
  const [from, to] = change.split("-").map(Number);
  const result = await inFolder(async (folder) => {
    const before = await run(from, folder, { stopAt: CUT });
    const after = await run(to, folder, {});
    const losses = [...before.losses, ...after.losses];
    const largest = Math.max(...losses.map((loss, i) => Math.abs(loss - undisturbed.losses[i])));
    const said = after.err.split("\n").filter((line) => line.startsWith("Trainer:"));
    return {
      from,
      to,
      cut: CUT,
      steps: losses.length,
      resumedFrom: after.resumed.step,
      largestDifference: largest,
      said,
    };
  });
  // Losses near 2, in float32: 45 steps of Adam carry rounding of 1e-7 on.
  const good =
    result.steps === undisturbed.losses.length && result.largestDifference < 1e-4 && result.said.length === 1;
  if (!good) process.exitCode = 1;
  console.log(JSON.stringify({ mpi, ...result }));
}
