import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { buildIfStale } from "../cli/built.js";

// Short runs of the scripts beside this file, which tell the rest.
const at = (path: string): string => new URL(path, import.meta.url).pathname;
const root = at("../../");
const env = { ...process.env, NODE_OPTIONS: "" };
const mpiVariables = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_rmaps_base_oversubscribe: "1",
};

const installed = (mpi: string): boolean => spawnSync(`mpirun.${mpi}`, ["--version"]).status === 0;
const openMpi = installed("openmpi");
const mpich = installed("mpich");

function script(name: string, ...args: string[]): Record<string, unknown>[] {
  const ended = spawnSync(process.execPath, [at(`./${name}`), ...args], { encoding: "utf8", env, timeout: 100_000 });
  expect(ended.status, ended.stdout + ended.stderr).toBe(0);
  return ended.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

let folder: string;
beforeAll(buildIfStale, 180_000);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("a job that is killed", () => {
  it.runIf(openMpi)(`goes on with the same bits, Open MPI${openMpi ? "" : " (not installed)"}`, () => {
    const [rank] = script("crash_kills.mjs", "--mpi", "openmpi", "--what", "rank", "--moments", "1", "--seed", "3");
    expect(rank).toMatchObject({ equal: 1, orphans: 0 });
  });

  it.runIf(mpich)(`goes on with the same bits, MPICH${mpich ? "" : " (not installed)"}`, () => {
    const [job] = script("crash_kills.mjs", "--mpi", "mpich", "--what", "job", "--moments", "1", "--seed", "3");
    expect(job).toMatchObject({ equal: 1, orphans: 0 });
  });
});

it.runIf(openMpi)(`goes on with another number of ranks, rounded otherwise${openMpi ? "" : " (no Open MPI)"}`, () => {
  expect(script("crash_ranks.mjs", "--changes", "2-1")).toHaveLength(1);
});

it("a damaged checkpoint is found out, and the one before taken", () => {
  const [counts] = script("crash_damage.mjs", "--bytes", "40");
  expect(counts).toMatchObject({ "one byte": { copies: 40, passedOver: 40, warned: 40, sameBits: 40 } });
});

it("a disk that is full or read-only is told of at the start, and outlived on the way", ({ skip }) => {
  const cases = script("crash_disk.mjs");
  if (cases[0] && "skipped" in cases[0]) skip(String(cases[0].skipped));
  expect(cases).toHaveLength(5);
});

describe("examples/slurm", () => {
  const job = at("./crash/job.mjs");
  const whole = (): string => {
    const place = join(folder, "whole");
    mkdirSync(place);
    const { stdout } = spawnSync(process.execPath, [job, place], { encoding: "utf8", env });
    return (JSON.parse(stdout) as { lossHash: string }).lossHash;
  };
  const untilDone = (options: object, ...before: string[]) => {
    const place = join(folder, "run");
    mkdirSync(place);
    const args = [place, ...before, process.execPath, job, place, JSON.stringify(options)];
    const at = { cwd: root, encoding: "utf8", env: { ...env, PAUSE: "0" }, timeout: 60_000 } as const;
    return spawnSync("examples/slurm/run_until_done.sh", args, at);
  };

  it("run_until_done.sh starts a job again that is killed three times, up to the same bits", () => {
    // Each of these kills the job once.
    const once = (step: number): string => `mkdir ${folder}/killed-${step} && kill -9 $PPID || true`;
    const commands = Object.fromEntries([10, 21, 33].map((step) => [step, once(step)]));
    const { status, stdout, stderr } = untilDone({ at: commands });
    expect(status, stderr).toBe(0);
    expect(stderr.match(/going on from step \d+/g)).toEqual([8, 20, 32].map((step) => `going on from step ${step}`));
    expect(JSON.parse(stdout)).toMatchObject({ lossHash: whole(), resumed: { step: 32 } });
  });

  it("run_until_done.sh gives up on a job that fails twice at the same place", () => {
    const { status, stderr } = untilDone({ at: { 10: "kill -9 $PPID" } });
    expect(status).toBe(137);
    expect(stderr).toMatch(/going on from step 8\n.*exit code 137 at step 8, as the time before.*giving up\n$/s);
  });

  const inSlurm = ["train.sbatch", "train_until_done.sbatch"];
  it.runIf(openMpi).each(inSlurm)("%s saves as its time ends, queues again, and goes on", async (name) => {
    const out = join(folder, "out");
    const bin = join(folder, "node_modules", ".bin");
    for (const made of [out, bin]) mkdirSync(made, { recursive: true });
    symlinkSync(root, join(folder, "node_modules", "evenkeel"));
    symlinkSync(join(root, "examples"), join(folder, "examples"));
    const fake = (path: string, text: string) => writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    fake(
      join(folder, "srun"),
      `[ "$1 $2" = "--mpi=pmix --kill-on-bad-exit=1" ] || exit 9; shift 2; exec mpirun.openmpi -n 2 "$@"`,
    );
    fake(
      join(bin, "evenkeel"),
      `[ "$*" = "train --out ${out} --resume auto --keep 3 --norm batch" ] || exit 9
exec "${process.execPath}" "${job}" "${out}" "$JOB"`,
    );
    fake(join(folder, "scontrol"), `echo "$@" > ${folder}/requeued`);
    const slurm = { OUT: out, SLURM_JOB_ID: "17", SLURM_JOB_NAME: "x", PATH: `${folder}:${process.env.PATH}` };
    const start = (options: object) => {
      const variables = { ...env, ...mpiVariables, ...slurm, JOB: JSON.stringify(options) };
      const child = spawn("bash", [join("examples/slurm", name), "--norm", "batch"], { cwd: folder, env: variables });
      let [stdout, stderr] = ["", ""];
      child.stdout.on("data", (text) => {
        stdout += text;
      });
      child.stderr.on("data", (text) => {
        stderr += text;
      });
      const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
        child.on("close", (code) => resolve({ code, stdout, stderr }));
      });
      return { child, ended };
    };
    const phase = () => (existsSync(join(out, "phase")) ? readFileSync(join(out, "phase"), "utf8") : "");
    const first = start({ pause: 30 });
    while (phase() !== "steps" && first.child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
    first.child.kill("SIGUSR2");
    const ended = await first.ended;
    expect(ended).toMatchObject({ code: 140, stderr: expect.stringMatching(/Stopped by SIGUSR2 after step \d+/) });
    expect(readFileSync(join(folder, "requeued"), "utf8")).toBe("requeue 17\n");
    const second = await start({}).ended;
    expect(second.code, second.stderr).toBe(0);
    const result = JSON.parse(second.stdout.match(/^{.*}$/m)![0]);
    expect(result).toMatchObject({ ranks: 2, steps: 45 });
    expect(result.resumed.step).toBeGreaterThan(0);
  });
});
