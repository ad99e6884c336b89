import { execFileSync, spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, describeMpi, type Ended, type InstalledMpi, mpirun, type Program } from "./mpirun.js";

let program: Program;
beforeAll(async () => {
  program = await bundle("./mpi_end_jobs.ts");
}, 60_000);
afterAll(() => program.dispose());

/** Processes that run the program. */
const left = (): string[] =>
  execFileSync("ps", ["-eo", "pid=,stat=,args="], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.includes(program.path) && !/^\s*\d+ Z/.test(line));

async function nobodyIsLeft(): Promise<string[]> {
  for (const end = performance.now() + 5000; left().length > 0 && performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return left();
}

/** Whether the system lets a process take open files from the one above it: not in all containers, nor where Yama forbids it. */
function mayTakeFiles(): boolean {
  const steps = `
    const call = require("koffi").load("libc.so.6").func("long syscall(long, long, long, long)");
    const above = call(434, process.ppid, 0, 0);
    process.exit(above >= 0 && call(438, above, 0, 0) >= 0 ? 0 : 1);`;
  const { status, stderr } = spawnSync(process.execPath, ["-e", steps], { encoding: "utf8" });
  if (stderr) throw new Error(stderr);
  return status === 0;
}

interface Expected {
  /** The last rank's way to end, while the others wait for it. */
  readonly job: string;
  /** Of mpirun, which is what the launcher makes of it where a signal ended the rank. */
  readonly code: Readonly<Record<string, number>> | number;
  readonly says: RegExp;
  /** Seconds that a call may take. */
  readonly limit?: string;
}

const ends: readonly Expected[] = [
  { job: "good", code: 0, says: /^$/ },
  { job: "throws", code: 1, says: /^evenkeel: rank 2 of 3 ends all ranks: Error: bad batch\n/m },
  { job: "rejects", code: 1, says: /^evenkeel: rank 2 of 3 ends all ranks: Error: lost promise\n/m },
  { job: "exits", code: 3, says: /^evenkeel: rank 2 of 3 ends all ranks: exit with code 3\n/m },
  { job: "leaves", code: 1, says: /none leaves before; got the end of rank 2, for whose next call rank [01] waits/ },
  { job: "leavesAwaited", code: 1, says: /none leaves before; got the end of rank 2/ },
  { job: "killed", code: { "Open MPI": 137, MPICH: 9 }, says: /^/ },
  { job: "terminated", code: { "Open MPI": 143, MPICH: 15 }, says: /^/ },
  { job: "gaveUp", code: 1, says: /^evenkeel: rank 2 of 3 ends all ranks: no more data\n/m },
  { job: "agreed", code: 143, says: /^(?![\s\S]*MPI_ABORT)/i },
  { job: "absent", code: 1, says: /each within 1 seconds of the others; got barrier, in which not all/, limit: "1" },
];

/** What came of each end; two at a time, since they wait more than they compute. */
async function allEnds(mpi: InstalledMpi): Promise<Ended[]> {
  const results: Ended[] = [];
  const run = async ({ job, limit }: Expected) =>
    mpirun(mpi, 3, program.path, { args: [job, ...(limit ? [limit] : [])] });
  for (let i = 0; i < ends.length; i += 2) results.push(...(await Promise.all(ends.slice(i, i + 2).map(run))));
  return results;
}

describeMpi("the end of a job over MPI", (mpi) => {
  test("a rank that fails or leaves ends all of them, soon, with a code and a reason", async () => {
    const results = await allEnds(mpi);
    for (const [i, { job, code, says }] of ends.entries()) {
      const { seconds, ...ended } = results[i]!;
      expect(ended.code, `${job}: ${ended.stderr}`).toBe(typeof code === "number" ? code : code[mpi.name]);
      expect(ended.stderr, job).toMatch(says);
      expect(seconds, job).toBeLessThan(8); // 5 and the start of three processes on a machine with other things to do
    }
    expect(await nobodyIsLeft()).toEqual([]);
  });

  test("ranks that a program of Node starts, as npx does, find each other", async () => {
    const starter =
      "process.exitCode = require('child_process').spawnSync(process.execPath, process.argv.slice(1), { stdio: 'inherit' }).status";
    const by = [process.execPath, "-e", starter];
    const good = await mpirun(mpi, 3, program.path, { by, args: ["good"] });
    if (mpi.name === "MPICH" && !mayTakeFiles()) {
      expect([good.code, good.stderr]).toEqual([1, expect.stringContaining("inherits an open file (PMI_FD)")]);
      return;
    }
    expect([good.code, good.stderr]).toEqual([0, ""]);
    expect((await mpirun(mpi, 3, program.path, { by, args: ["exits"] })).code).toBe(3);
    expect(await nobodyIsLeft()).toEqual([]);
  });

  test("mpirun killed: its ranks end", async () => {
    const options = {
      args: ["endless"],
      onStart: (pid: number) => void setTimeout(() => process.kill(pid, "SIGKILL"), 1500),
    };
    expect((await mpirun(mpi, 2, program.path, options)).signal).toBe("SIGKILL");
    expect(await nobodyIsLeft()).toEqual([]);
  });

  test("the launcher of one family with the library of the other, or with none: all ranks say so", async () => {
    const other = mpi.name === "MPICH" ? "libmpi.so.40" : "libmpich.so.12";
    const run = (library: string) =>
      mpirun(mpi, 2, program.path, { args: ["good"], environment: { EVENKEEL_MPI_LIBRARY: library } });
    const none = await run("libnone.so");
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining("libnone.so is no MPI library")]);
    const wrong = await run(other);
    expect(wrong.code).not.toBe(0);
    // Where the other family is not installed it is the same as none.
    expect(wrong.stderr).toMatch(/started 2 ranks, which must find each other; got a world of 1 in|is no MPI library/);
    expect(await nobodyIsLeft()).toEqual([]);
  });
});
