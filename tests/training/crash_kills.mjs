// Kills jobs at random moments with SIGKILL: one rank, the whole job, or the launcher alone; then resumes them, and compares the bits of
// all losses with those of an undisturbed run. Needs dist (npm run build) and Linux (/proc).
// Run: node tests/training/crash_kills.mjs --mpi openmpi --what rank --moments 25
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

const { mpi, what, moments, ranks, seed } = argumentsOf({
  mpi: "openmpi",
  what: "rank",
  moments: 25,
  ranks: 2,
  seed: 1,
});
const random = randomOf(seed);
const options = {};

/** Which processes of a job are killed. */
const victims = {
  rank: ({ mark }) => {
    const all = ranksOf(mark);
    return all.length > 0 ? [all[Math.floor(random() * all.length)]] : null;
  },
  job: ({ mark }) => processesOf(mark),
  launcher: ({ child }) => [child.pid],
};
if (!(what in victims)) {
  console.error(`--what is one of ${Object.keys(victims).join(", ")}; got ${what}`);
  process.exit(2);
}

const inFolder = async (body) => {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-crash-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const isWriting = (folder) => readdirSync(folder).some((name) => name.endsWith(".tmp"));
const phaseOf = (folder) => {
  if (isWriting(folder)) return "checkpoint";
  try {
    return readFileSync(join(folder, "phase"), "utf8") || "steps";
  } catch {
    return "start";
  }
};

/** Every fourth moment is the first at or after a random time at which a checkpoint is being written, every eighth one in an evaluation. */
const wanted = (i) => (i % 4 === 1 ? "checkpoint" : i % 8 === 3 ? "evaluation" : null);

async function trial(i, { seconds: whole, lossHash }) {
  return inFolder(async (folder) => {
    const job = launch({ mpi, ranks, folder, options });
    const until = performance.now() + 1000 * whole * random();
    await sleep(until - performance.now());
    const phase = wanted(i);
    if (phase) while (phaseOf(folder) !== phase && job.child.exitCode === null) await sleep(0);
    let pids = victims[what](job);
    // Before there is a rank there is none to kill.
    while (!pids && job.child.exitCode === null) {
      await sleep(1);
      pids = victims[what](job);
    }
    const hit = phaseOf(folder);
    const killed = performance.now();
    for (const pid of pids ?? []) kill(pid);
    const { code, signal } = await job.left;
    const mpirunEnded = (performance.now() - killed) / 1000;
    const { orphans } = await untilNoneIsLeft(job.mark, 15);
    const allEnded = (performance.now() - killed) / 1000;
    const again = launch({ mpi, ranks, folder, options });
    const second = await again.ended;
    const result = resultOf(second);
    await untilNoneIsLeft(again.mark);
    return {
      ...{ hit, exit: signal ?? code, mpirunEnded, allEnded, orphans },
      resumedFrom: result ? (result.resumed?.step ?? 0) : null,
      skipped: result?.resumed?.skipped.length ?? 0,
      equal: result !== null && result.lossHash === lossHash,
      ...(result ? {} : { failure: second.err.slice(-2000), code: second.code }),
    };
  });
}

const undisturbed = await inFolder(async (folder) => {
  const end = await launch({ mpi, ranks, folder, options }).ended;
  const result = resultOf(end);
  if (!result) throw new Error(`The undisturbed run failed (exit code ${end.code}): ${end.err}`);
  return { ...result, seconds: end.seconds };
});

const trials = [];
for (let i = 0; i < moments; i++) {
  const t = await trial(i, undisturbed);
  trials.push(t);
  if (t.failure || !t.equal || t.orphans) console.error(JSON.stringify(t));
}

const tally = (key) => {
  const counts = new Map();
  for (const t of trials) counts.set(t[key], (counts.get(t[key]) ?? 0) + 1);
  return Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
};
const largest = (key) => Number(Math.max(...trials.map((t) => t[key])).toFixed(2));
const result = {
  ...{ mpi, what, ranks, moments, steps: undisturbed.steps },
  equal: trials.filter((t) => t.equal).length,
  orphans: trials.filter((t) => t.orphans > 0).length,
  damagedMet: trials.filter((t) => t.skipped > 0).length,
  exits: tally("exit"),
  killedIn: tally("hit"),
  longestUntilMpirunEnded: largest("mpirunEnded"),
  longestUntilAllEnded: largest("allEnded"),
  resumedFrom: tally("resumedFrom"),
};
console.log(JSON.stringify(result));
process.exitCode = result.equal === moments && result.orphans === 0 ? 0 : 1;
