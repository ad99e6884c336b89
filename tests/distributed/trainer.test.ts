import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";
import type { Trained, TrainInput } from "./trainer_jobs.js";

let ranks: Ranks;
let folder: string;
beforeAll(async () => {
  ranks = await prepareRanks();
}, 60_000);
afterAll(() => ranks.dispose());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const start = (size: number, input: TrainInput, job = "train") =>
  ranks.run<Trained>(
    size,
    job,
    Array.from({ length: size }, () => input),
    { timeout: 20 },
  );

/** What rank 0 has, once it is sure that all ranks have the same, but for their random numbers, warnings and buffers of their own. */
async function train(size: number, input: TrainInput): Promise<Trained> {
  const [first, ...others] = valuesOf(await start(size, input));
  for (const { random: _, warnings: __, buffers: ___, ...other } of others) expect(first).toMatchObject(other);
  return first!;
}

const largestDifference = (a: readonly number[], b: readonly number[]): number => {
  expect(a.length).toBe(b.length);
  return Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
};

/** Sums of float32 gradients in another order, through 22 steps of Adam at a rate of 0.01: a hundredth of a step. */
const NEARLY = 1e-4;

describe("several ranks learn what one learns", () => {
  // Batches of 8 and a last one of 3: uneven shards, and with 4 ranks one that is empty.
  it.each([2, 3, 4])("%i ranks with SyncBatchNorm", async (size) => {
    const [one, several] = [await train(1, { norm: "sync" }), await train(size, { norm: "sync" })];
    expect(one.losses).toHaveLength(22);
    expect(largestDifference(one.losses, several.losses)).toBeLessThan(NEARLY);
    expect(largestDifference(one.state, several.state)).toBeLessThan(NEARLY);
    expect(Math.abs(one.testLoss! - several.testLoss!)).toBeLessThan(NEARLY);
    expect(several.testAccuracy).toBeCloseTo(one.testAccuracy!, 10);
  });

  it.each([
    "sharedActNorm",
    "sharedVirtualBatchNorm",
    "sharedEvoNormB0",
    "sharedPowerNorm",
    "sharedSwitchableNorm",
  ] as const)("%s: four ranks, one without samples in each batch and so in the first too", async (norm) => {
    const input: TrainInput = { norm, batchSize: 3, samples: 36 };
    const [one, several] = [await train(1, input), await train(4, input)];
    expect(one.losses).toHaveLength(24);
    expect(largestDifference(one.losses, several.losses)).toBeLessThan(NEARLY);
    expect(largestDifference(one.state, several.state)).toBeLessThan(NEARLY);
  });

  it("in the same bits each time", async () => {
    const input: TrainInput = { norm: "sync", dropout: true };
    expect((await train(3, input)).lossHash).toBe((await train(3, input)).lossHash);
  });

  it("whether test data are shared out or not", async () => {
    const options = { evaluateEverySteps: 4 };
    const [shared, whole] = [await train(3, { options }), await train(3, { options, testSharded: false })];
    expect(whole.lossHash).toBe(shared.lossHash);
    // Sums of as many float32 losses in another order.
    expect(Math.abs(whole.testLoss! - shared.testLoss!)).toBeLessThan(1e-7);
    expect(whole.testAccuracy).toBe(shared.testAccuracy);
  });

  it("with statistics of each rank's own part: rank 0's count in the end, and who has no sample goes on", async () => {
    const { state, losses } = await train(4, { norm: "own" });
    expect(losses).toHaveLength(22);
    expect([...state, ...losses].every(Number.isFinite)).toBe(true);
  });
});

describe("accumulateSteps", () => {
  it.each([1, 3])("on %i ranks: 4 batches of 8 are one of 32", async (size) => {
    const accumulated = await train(size, { options: { accumulateSteps: 4 } });
    const joined = await train(size, { batchSize: 32 });
    // 11 batches in an epoch: the last step has 3.
    expect(accumulated.losses).toHaveLength(6);
    expect(largestDifference(accumulated.losses, joined.losses)).toBeLessThan(1e-6);
    expect(largestDifference(accumulated.state, joined.state)).toBeLessThan(NEARLY);
  });
});

describe("an end that all ranks agree on", () => {
  it("stop() on any rank ends all after the same step", async () => {
    const { losses, reason } = await train(3, { stop: { rank: 2, step: 5 } });
    expect(reason).toBe("stopped");
    // The others hear of it in the step after.
    expect(losses).toHaveLength(6);
  });

  it("parameters that are not the same on all ranks are an error on all, after the first step", async () => {
    const outcomes = await start(3, { norm: "ownActNorm" });
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        error: "CommunicationError",
        message: expect.stringMatching(
          /got 2\.weight and 1 other on rank 1, 2\.weight and 1 other on rank 2 unlike rank 0's/,
        ),
      });
    }
  });

  it("a loss that is not finite on one rank is an error on all, at the same step", async () => {
    const outcomes = await start(3, { spoil: { rank: 1, step: 4 } });
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ error: "NonFiniteError", message: expect.stringMatching(/NaN at step 5 /) });
    }
  });
});

describe("checkpoints", () => {
  const path = () => join(folder, "run.evk");

  it.each(["sync", "own", "ownRenorm"] as const)(
    "of several ranks go on with the same bits on as many (%s)",
    async (norm) => {
      const input = { norm, dropout: true };
      const whole = await start(2, input);
      await start(2, { ...input, path: path(), stop: { rank: 1, step: 7 } });
      const resumed = await start(2, { ...input, path: path(), resume: true });
      const hash = ({ lossHash, state, random, buffers }: Trained) => ({ lossHash, state, random, buffers });
      expect(valuesOf(resumed).map(hash)).toEqual(valuesOf(whole).map(hash));
      // Ranks drop different units.
      const [a, b] = valuesOf(whole);
      expect(a!.random).not.toEqual(b!.random);
      // And keep statistics of their own parts.
      if (norm !== "sync") expect(a!.buffers).not.toEqual(b!.buffers);
    },
  );

  it("go on with the same batches on another number, and say so", async () => {
    const plain: TrainInput = { norm: "sync" };
    const one = await train(1, plain);
    for (const [before, after] of [
      [2, 3],
      [3, 1],
      [1, 2],
    ] as const) {
      await start(before, { ...plain, path: path(), stop: { rank: 0, step: 6 } });
      const outcomes = valuesOf(await start(after, { ...plain, path: path(), resume: true }));
      const { losses, warnings } = outcomes[0]!;
      expect(largestDifference(one.losses.slice(-losses.length), losses)).toBeLessThan(NEARLY);
      expect(losses.length).toBeLessThanOrEqual(16);
      expect(warnings).toEqual([
        expect.stringMatching(`what ${before} ranks? trained until step \\d+ goes on with ${after} ranks?:`),
      ]);
      for (const other of outcomes.slice(1)) expect(other.warnings).toEqual([]);
      rmSync(path());
    }
  });

  it("that cannot be read are an error on all ranks", async () => {
    const outcomes = await start(2, { path: join(folder, "none", "run.evk") });
    for (const outcome of outcomes) expect(outcome).toMatchObject({ error: "FileError" });
  });
});

describe("several ranks refuse", () => {
  it.each<[string, TrainInput, RegExp]>([
    ["a loader of everything", { sharded: false }, /with 2 ranks, train hands each rank its part.*shard: communicator/],
    ["capture", { options: { capture: true } }, /capture is for one rank.*got 2 ranks/],
  ])("%s", async (_, input, message) => {
    const outcomes = await start(2, input);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ error: "OptionError", message: expect.stringMatching(message) });
    }
  });

  it("to train for different numbers of epochs", async () => {
    const outcomes = await start(3, {}, "trainUnlike");
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        error: "OptionError",
        message: expect.stringContaining("2 on rank 0, 3 on rank 1"),
      });
    }
  });
});
