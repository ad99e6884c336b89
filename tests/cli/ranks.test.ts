import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeMpi, type Ended, type InstalledMpi, jsonLines, mpirun } from "../distributed/mpirun.js";
import { buildIfStale, program, start } from "./built.js";

let folder: string;
beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const quick = ["train", "--epochs", "1", "--batch-size", "144", "--json"];

const evenkeel = (mpi: InstalledMpi, args: readonly string[]): Promise<Ended> => mpirun(mpi, 2, program, { args });

const linesOf = (text: string): string[] => text.split("\n").filter((line) => line !== "");

function eventLosses(out: string): number[] {
  const events = linesOf(readFileSync(join(out, "events.jsonl"), "utf8")).map((line) => JSON.parse(line));
  return events.filter(({ type }) => type === "step").map(({ loss }) => loss);
}

/** The node processes that were started with this text among their arguments. */
const ranksWith = (argument: string): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [command, ...args] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return command === process.execPath && args.includes(argument);
      } catch {
        return false;
      }
    })
    .map(Number);

/** By MPI; the first one's is what the second must equal. */
const hashes: string[] = [];
let undisturbed: string | null = null;

describeMpi("evenkeel train on 2 ranks", (mpi) => {
  it("learns what one process learns, and says everything once", async () => {
    const out = join(folder, mpi.mpirun);
    const ended = await evenkeel(mpi, [...quick, "--out", out]);
    expect(ended.code).toBe(0);
    const [result, ...more] = jsonLines<{ lossHash: string; steps: number; testAccuracy: number }>(ended);
    expect(more).toEqual([]);
    expect(linesOf(ended.stdout)).toHaveLength(3);
    expect(linesOf(ended.stderr)).toEqual([
      expect.stringMatching(/^2 ranks, \d+ threads? each, share batches of 144; .*over all ranks \(SyncBatchNorm\)$/),
      expect.stringMatching(/^batch: +epoch 1\/1 +step 9\/9 /),
    ]);
    expect(readdirSync(out).sort()).toEqual([
      "checkpoint-step9.evk",
      "checkpoint.evk",
      "events.jsonl",
      "report.html",
      "summary.json",
    ]);
    const summary = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    expect(summary).toMatchObject({ ranks: 2, lossHash: result!.lossHash, settings: { batchSize: 144 } });
    expect(JSON.stringify(summary.settings)).not.toMatch(/ranks|world/i);

    hashes.push(result!.lossHash);
    expect(hashes.every((hash) => hash === hashes[0])).toBe(true);

    const alone = join(folder, "alone");
    if (!existsSync(alone)) await start(program, [...quick, "--out", alone], folder).done;
    const [one, two] = [eventLosses(alone), eventLosses(out)];
    expect(two).toHaveLength(9);
    // float32 sums in another order, through 9 steps.
    for (const [i, loss] of one.entries()) expect(Math.abs(loss - two[i]!)).toBeLessThan(1e-5);
  }, 120_000);

  it("stopped on one rank: a checkpoint, 143 from all, and --resume auto goes on to the same bits", async () => {
    const out = join(folder, `${mpi.mpirun}-cut`);
    const args = [
      "train",
      "--epochs",
      "2",
      "--batch-size",
      "36",
      "--json",
      "--resume",
      "auto",
      "--checkpoint-every",
      "7",
    ];
    const running = evenkeel(mpi, [...args, "--out", out]);
    while (!existsSync(join(out, "checkpoint.evk"))) await new Promise((resolve) => setTimeout(resolve, 5));
    process.kill(ranksWith(out)[0]!, "SIGTERM");
    const cut = await running;
    expect(cut.code).toBe(143);
    expect(cut.stderr).toMatch(new RegExp(`^No checkpoint in ${out}: starting anew\n2 ranks`));
    expect(cut.stderr.match(/^Stopped by SIGTERM after step \d+\. Go on with: .*$/gm)).toHaveLength(1);
    expect(cut.stdout).toBe("");
    expect(ranksWith(out)).toEqual([]);

    const resumed = await evenkeel(mpi, [...args, "--out", out]);
    expect(resumed).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^Going on from .*checkpoint.evk, after step \d+\n/),
    });
    const hash = (ended: Ended) => jsonLines<{ lossHash: string }>(ended)[0]!.lossHash;
    undisturbed ??= hash(await evenkeel(mpi, [...args, "--out", `${out}-whole`]));
    expect(hash(resumed)).toBe(undisturbed);
  }, 120_000);

  it("an error of all is said once", async () => {
    const wrong = await evenkeel(mpi, ["train", "--nrom", "batch"]);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr.match(/^evenkeel.*$/gm)).toEqual([expect.stringMatching(/unknown option '--nrom'/)]);
  }, 120_000);
});
