// Real disks that are full or read-only: small tmpfs, which root can mount. Needs dist (npm run build).
// Run: node tests/training/crash_disk.mjs
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { argumentsOf, isInstalled, launch, resultOf } from "./crash/launch.mjs";

const { mpi, ranks } = argumentsOf({ mpi: "none", ranks: 1 });
const root = mkdtempSync(join(tmpdir(), "evenkeel-crash-"));
const disk = join(root, "disk");
mkdirSync(disk);

const sh = (command) => execFileSync("sh", ["-c", command], { stdio: "ignore" });
const fill = `dd if=/dev/zero of=${disk}/filler bs=4k`;
const free = `rm ${disk}/filler`;
const readOnly = `mount -o remount,ro ${disk}`;
const writable = `mount -o remount,rw ${disk}`;

/** What is done before the job, after some of its steps, and before it is started again; and the exit code that is wanted. */
const cases = {
  "full at the start": { before: `${fill} || true`, repair: free, code: 1 },
  "full from step 10 on": { at: { 10: `${fill} || true` }, repair: free, code: 1 },
  "full from step 10 to 30": { at: { 10: `${fill} || true`, 30: free }, code: 0 },
  "read-only at the start": { before: readOnly, repair: writable, code: 1 },
  "read-only from step 10 on": { at: { 10: readOnly }, repair: writable, code: 1 },
};

const run = (options) => launch({ mpi, ranks, folder: root, options: { disk, ...options } }).ended;

async function outcome({ before, at = {}, repair, code }) {
  // Room for about eight checkpoints of 12 KB.
  sh(`mount -t tmpfs -o size=100k tmpfs ${disk}`);
  try {
    if (before) sh(before);
    const ended = await run({ at });
    const files = readdirSync(disk).filter((name) => name !== "filler");
    if (repair) sh(repair);
    const again = resultOf(await run({}));
    const lines = ended.err
      .split("\n")
      .filter((line) => /checkpoint|Checkpoint|Writing/.test(line) && !/^\s*at /.test(line));
    return {
      ...{ code: ended.code, wanted: code, seconds: Number(ended.seconds.toFixed(1)), files },
      resumedFrom: again?.resumed?.step ?? null,
      equal: again?.lossHash === lossHash,
      said: lines.map((line) => line.replaceAll(root, "")),
    };
  } finally {
    sh(`umount ${disk}`);
  }
}

let lossHash = null;
try {
  if (!isInstalled(mpi)) throw new Error(`${mpi} is not installed`);
  try {
    sh(`mount -t tmpfs -o size=100k tmpfs ${disk} && umount ${disk}`);
  } catch {
    console.log(JSON.stringify({ skipped: "mounting needs root" }));
    process.exit(0);
  }
  lossHash = resultOf(await run({})).lossHash;
  for (const name of readdirSync(disk)) rmSync(join(disk, name));
  for (const [name, settings] of Object.entries(cases)) {
    const result = await outcome(settings);
    if (result.code !== result.wanted || !result.equal || result.files.some((f) => f.endsWith(".tmp")))
      process.exitCode = 1;
    console.log(JSON.stringify({ case: name, ...result }));
  }
} finally {
  rmSync(root, { recursive: true });
}
