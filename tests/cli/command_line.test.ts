import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIfStale, type Finished, program, start } from "./built.js";

let folder: string;

beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const evenkeel = (...args: string[]): Promise<Finished> => start(program, args, folder).done;
const lastLine = (out: string): string => out.trimEnd().split("\n").at(-1)!;
// One thread and few samples a step: what is tested here is not the arithmetic.
const quick = ["--epochs", "1", "--batch-size", "256"];

describe("help", () => {
  it.each([[["--help"]], [["train", "--help"]], [["compare", "--help"]], [["help", "train"]]])("%s", async (args) => {
    const { code, out, err } = await evenkeel(...args);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^Usage: evenkeel/);
  });

  it("names every option of train", async () => {
    const { out } = await evenkeel("train", "--help");
    for (const flag of "data norm epochs batch-size seed threads device out resume json".split(" ")) {
      expect(out).toContain(`--${flag}`);
    }
  });

  it("prints the version", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await evenkeel("--version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });

  it("is shown, as an error, without a command", async () => {
    const { code, err } = await evenkeel();
    expect(code).toBe(2);
    expect(err).toMatch(/Usage: evenkeel/);
  });
});

describe("wrong usage", () => {
  it.each<[string[], RegExp]>([
    [["tran"], /unknown command 'tran' \(Did you mean train\?\)/],
    [["train", "--nrom", "batch"], /unknown option '--nrom' \(Did you mean --norm\?\)/],
    [["train", "--norm", "bacth"], /It is one of none, batch,.*Did you mean "batch"\?/],
    [["train", "--data", "digit"], /Did you mean "digits"\?/],
    [["train", "--data", "imagenet-22k"], /It is one of digits, mnist, cifar10\. See/],
    [["train", "--data", "mnist"], /needs --data-dir/],
    [["train", "--epochs", "0"], /whole number of at least 1/],
    [["train", "--epochs", "1e3"], /whole number of at least 1/],
    [["train", "--batch-size", "-4"], /whole number of at least 1/],
    [["train", "--lr", "NaN"], /number above 0/],
    [["train", "--seed", "x"], /whole number/],
    [["train", "--threads", "65"], /from 1 to 64/],
    [["train", "--device", "gpu"], /It is one of cpu, webgpu\. Did you mean "cpu"\?/],
    [["train", "--norm"], /argument missing/],
    [["train", "digits"], /too many arguments/],
    [["compare", "--norms", "batch,gruop"], /Did you mean "group"\?/],
    [["compare", "--batch-sizes", "32,,2"], /whole number of at least 1/],
  ])("%j exits with 2 and one line", async (args, message) => {
    const { code, out, err } = await evenkeel(...args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("failures", () => {
  it.each<[string, string[], RegExp]>([
    ["missing data", ["train", "--data", "mnist", "--data-dir", "nowhere"], /nowhere/],
    ["a checkpoint that is missing", ["train", "--resume", "none.evk"], /none\.evk: no such file/],
    ["a batch larger than the data", ["train", "--batch-size", "5000"], /at least one batch/],
  ])("%s: exit code 1, one line, no trace", async (_, args, message) => {
    const { code, out, err } = await evenkeel(...args);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(message);
    expect(err).toMatch(/^evenkeel: .*\n$/);
  });

  it("a checkpoint that is something else", async () => {
    writeFileSync(join(folder, "text.evk"), "hello, this is text");
    const { code, err } = await evenkeel("train", "--resume", "text.evk");
    expect(code).toBe(1);
    expect(err).toMatch(/begins with EVKLCKPT; got text\.evk/);
  });

  it("a folder that cannot be written is told before training", async ({ skip }) => {
    if (process.getuid?.() === 0) writeFileSync(join(folder, "a_file"), "");
    else skip("root is needed to tell the two cases apart");
    const { code, err } = await evenkeel("train", "--out", join("a_file", "sub"));
    expect(code).toBe(1);
    expect(err).toMatch(/folder a_file\/sub must be there/);
  });

  it.skipIf(process.platform !== "linux")(
    "a folder that can never be made is told, and nothing waits for it",
    async () => {
      const { code, err } = await evenkeel("train", "--out", "/proc/none/sub");
      expect([code, err]).toEqual([1, expect.stringMatching(/folder \/proc\/none\/sub must be there/)]);
    },
  );
});

describe("train", () => {
  it("ends with one line of JSON, and leaves a report, a summary, events and a checkpoint", async () => {
    const { code, out } = await evenkeel("train", ...quick, "--norm", "group", "--json", "--out", "one");
    expect(code).toBe(0);
    const result = JSON.parse(lastLine(out));
    const keys = ["testAccuracy", "trainLoss", "steps", "seconds", "stepsPerSecond", "lossHash"];
    expect(Object.keys(result)).toEqual(keys);
    expect(result.steps).toBe(5);
    expect(result.lossHash).toMatch(/^[0-9a-f]{64}$/);
    expect(readdirSync(join(folder, "one")).sort()).toEqual([
      "checkpoint-step5.evk",
      "checkpoint.evk",
      "events.jsonl",
      "report.html",
      "summary.json",
    ]);
    expect(JSON.parse(readFileSync(join(folder, "one/summary.json"), "utf8"))).toMatchObject({
      lossHash: result.lossHash,
      settings: { norm: "group", data: "digits", epochs: 1 },
    });
    expect(readFileSync(join(folder, "one/report.html"), "utf8")).toContain("digits, group normalization");
  });

  it("gives equal bits for any number of threads", async () => {
    const hash = async (threads: string) =>
      JSON.parse(lastLine((await evenkeel("train", ...quick, "--threads", threads, "--json")).out)).lossHash;
    expect(await hash("2")).toBe(await hash("1"));
  });

  it("stopped by Ctrl-C, goes on with --resume to the same bits", async () => {
    const args = ["train", "--epochs", "8", "--batch-size", "128", "--json"];
    const whole = JSON.parse(lastLine((await evenkeel(...args)).out));
    const cut = start(program, [...args, "--out", "cut"], folder);
    await cut.until(() => existsSync(join(folder, "cut/checkpoint.evk")));
    cut.child.kill("SIGINT");
    const stopped = await cut.done;
    expect(stopped.code).toBe(130);
    expect(stopped.out).toBe("");
    expect(stopped.err).toMatch(/Stopped by SIGINT after step \d+\. Go on with: evenkeel train --resume cut\n$/);

    const wrong = await evenkeel("train", "--resume", "cut", "--norm", "layer");
    expect(wrong.code).toBe(2);
    expect(wrong.err).toMatch(/was made with --norm batch; got layer/);

    const { code, out } = await evenkeel("train", "--resume", "cut", "--json");
    expect(code).toBe(0);
    const result = JSON.parse(lastLine(out));
    expect(result).toMatchObject({ steps: whole.steps, lossHash: whole.lossHash, testAccuracy: whole.testAccuracy });
    const steps = readFileSync(join(folder, "cut/events.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
      .filter((event) => event.type === "step")
      .map((event) => event.step);
    expect(steps).toEqual(Array.from({ length: whole.steps }, (_, i) => i + 1));
  }, 120_000);
});

describe("compare", () => {
  it("trains as train does: the same losses to the bit for the same settings", async () => {
    const trained = await evenkeel("train", ...quick, "--norm", "group", "--json", "--out", "alone");
    await evenkeel("compare", ...quick, "--norms", "batch,group", "--json", "--out", "compared");
    const { runs } = JSON.parse(readFileSync(join(folder, "compared", "summary.json"), "utf8"));
    expect(runs[1].lossHash).toBe(JSON.parse(lastLine(trained.out)).lossHash);
  });

  it("trains each normalization and writes one report", async () => {
    const { code, out } = await evenkeel("compare", ...quick, "--json", "--out", "all");
    expect(code).toBe(0);
    const { runs, report } = JSON.parse(lastLine(out));
    expect(runs.map((run: { name: string }) => run.name)).toEqual([
      "none",
      "batch",
      "group",
      "layer",
      "instance",
      "rms",
    ]);
    expect(report).toBe(join("all", "report.html"));
    expect(out).toMatch(/Run +Test accuracy +Test loss/);
    expect(existsSync(join(folder, "all/summary.json"))).toBe(true);
  });

  it("gives what README's table says, times apart", async () => {
    const { out } = await evenkeel("compare", "--json", "--out", "readme");
    const runs: Record<string, number | string>[] = JSON.parse(lastLine(out)).runs;
    const given = runs.map(({ name, testAccuracy, testLoss, stepsTo95 }) =>
      [name, `${(100 * Number(testAccuracy)).toFixed(2)} %`, Number(testLoss).toFixed(4), `${stepsTo95}`].join(" | "),
    );
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const said = readme
      .slice(readme.indexOf("| normalization "))
      .split("\n")
      .slice(2, 2 + runs.length);
    const columns = (row: string) =>
      row
        .split("|")
        .slice(1, 5)
        .map((cell) => cell.trim());
    expect(said.map((row) => columns(row).join(" | "))).toEqual(given);
  }, 120_000);

  it("studies batch sizes", async () => {
    const { code, out } = await evenkeel(
      ...["compare", "--epochs", "1", "--norms", "batch,group", "--batch-sizes", "512,256", "--json", "--out", "study"],
    );
    expect(code).toBe(0);
    expect(out).toMatch(/Batch size +512 +256\n-+\nbatch +\S+ % +\S+ %\ngroup/);
    expect(JSON.parse(lastLine(out)).runs).toHaveLength(4);
    expect(readFileSync(join(folder, "study/report.html"), "utf8")).toContain("Test accuracy by batch size");
  });

  it("repeats with several seeds, and shows mean and spread", async () => {
    const args = ["compare", "--epochs", "1", "--norms", "group", "--batch-size", "512", "--seeds", "3", "--seed", "4"];
    const { code, out } = await evenkeel(...args, "--json", "--out", "seeds");
    expect(code).toBe(0);
    const { runs } = JSON.parse(lastLine(out)) as { runs: { seed: number; testAccuracy: number }[] };
    expect(runs.map((run) => run.seed)).toEqual([4, 5, 6]);
    const shares = runs.map((run) => 100 * run.testAccuracy);
    const mean = (shares[0]! + shares[1]! + shares[2]!) / 3;
    const spread = Math.sqrt(shares.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 2);
    expect(out).toContain(`${mean.toFixed(2)} % ± ${spread.toFixed(2)}`);
  });
});
