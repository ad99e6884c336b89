// Ends jobs by SIGTERM, as schedulers do: to mpirun, to every rank, to one rank. Each must save, end with 143, and go on with the same bits.
// Run: node tests/training/crash_sigterm.mjs --mpi openmpi --times 5
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findCheckpoint } from "../../dist/train/index.js";
import {
  argumentsOf,
  kill,
  launch,
  processesOf,
  randomOf,
  ranksOf,
  resultOf,
  sleep,
  untilNoneIsLeft,
} from "./crash/launch.mjs";

const { mpi, times, ranks, seed } = argumentsOf({ mpi: "openmpi", times: 5, ranks: 2, seed: 1 });
const random = randomOf(seed);
const targets = {
  ...(mpi === "none" ? {} : { mpirun: ({ child }) => [child.pid] }),
  "every rank": ({ mark }) => ranksOf(mark),
  ...(mpi === "none"
    ? {}
    : { "one rank": ({ mark }) => ranksOf(mark).slice(-1), "all processes": ({ mark }) => processesOf(mark) }),
};

const inFolder = async (body) => {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-crash-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
};
const inSteps = (folder) => {
  try {
    return readFileSync(join(folder, "phase"), "utf8") === "steps";
  } catch {
    return false;
  }
};

// No checkpoint on the way: what is found was written on the signal.
const options = { everySteps: 1000, pause: 20 };
const undisturbed = await inFolder(async (folder) => resultOf(await launch({ mpi, ranks, folder, options }).ended));
for (const [name, pidsOf] of Object.entries(targets)) {
  const trials = [];
  for (let i = 0; i < times; i++) {
    trials.push(
      await inFolder(async (folder) => {
        const job = launch({ mpi, ranks, folder, options });
        while (!inSteps(folder) && job.child.exitCode === null) await sleep(2);
        await sleep(500 * random());
        const sent = performance.now();
        for (const pid of pidsOf(job)) kill(pid, "SIGTERM");
        const { code, signal } = await job.left;
        const seconds = (performance.now() - sent) / 1000;
        const { orphans } = await untilNoneIsLeft(job.mark);
        const step = findCheckpoint(folder)?.step ?? null;
        const { err } = await job.ended;
        const again = resultOf(await launch({ mpi, ranks, folder, options: { ...options, pause: 0 } }).ended);
        return { exit: signal ?? code, seconds, orphans, step, equal: again?.lossHash === undisturbed.lossHash, err };
      }),
    );
  }
  const exits = {};
  for (const t of trials) exits[t.exit] = (exits[t.exit] ?? 0) + 1;
  const result = {
    ...{ mpi, ranks, sentTo: name, times, exits },
    saved: trials.filter((t) => t.step > 0).length,
    equal: trials.filter((t) => t.equal).length,
    orphans: trials.filter((t) => t.orphans > 0).length,
    longest: Number(Math.max(...trials.map((t) => t.seconds)).toFixed(2)),
  };
  console.log(JSON.stringify(result));
  const bad = trials.find((t) => t.exit !== 143 || !t.equal || !(t.step > 0) || t.orphans);
  if (bad) {
    console.error(JSON.stringify(bad));
    process.exitCode = 1;
  }
}
