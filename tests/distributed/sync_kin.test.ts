import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loopback } from "../../src/base/communicator.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import { normalizeAxis, numberOfElements, type Shape } from "../../src/base/shape.js";
import { relativeError } from "../conformance/harness.js";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";
import { type LayerJob, type LayerResult, layerSteps } from "./sync_jobs.js";

// Layers that several ranks compute together, against one process with the joined batch.

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
});
afterAll(() => ranks.dispose());

const random = new Random(41);
const upTo = (n: number) => Math.floor(random.uniform() * n);
const pick = <T>(of: readonly T[]): T => of[upTo(of.length)]!;

/** A case: the same layer and steps, whole and in the parts of ranks. */
interface Case {
  readonly name: string;
  readonly whole: LayerJob;
  readonly parts: readonly LayerJob[];
}

type Options = LayerJob["options"];
type Kind = NonNullable<LayerJob["kind"]>;

const STEPS = 3;

/** Samples of each rank: any number, none too, with two at least in all. */
function shardsOf(size: number): number[] {
  const shards = Array.from({ length: size }, () => Math.max(0, upTo(7) - 1));
  if (shards.reduce((a, b) => a + b) < 2) shards[upTo(size)] = 3;
  return shards;
}

function makeCase(kind: Kind, size: number, own: Options, dtype: DType): Case {
  const channels = pick([1, 3, 8, 11]);
  const axis = pick([1, -1]);
  const space = pick([[], [1], [5], [2, 3]]) as number[];
  // A sample of one position may lie on the last rank alone, and be padding there.
  const masked = kind === "MaskedBatchNorm" && space.length > 0;
  const positions = masked ? [...space.slice(0, -1), 5] : space;
  const sample = axis === 1 ? [channels, ...positions] : [...positions, channels];
  const options: Options = {
    axis,
    momentum: pick([0.1, 0.4, null]),
    normalizingVariance: pick(["biased", "unbiased"]),
    runningVariance: pick(["biased", "unbiased"]),
    parameterGradients: pick(["sum", "mean"]),
    affineGradients: pick(["own", "sum", "mean"]),
    ...own,
  };
  const each = numberOfElements(sample);
  const shards = Array.from({ length: STEPS }, () => shardsOf(size));
  const steps = shards.map((n) => {
    const total = n.reduce((a, b) => a + b);
    const numbers = (mean: number) =>
      Float64Array.from({ length: total * each }, () => Math.fround(mean + random.normal()));
    const shape = [total, ...sample];
    const valid = Int32Array.from({ length: total * numberOfElements(positions) }, () =>
      random.uniform() < 0.6 ? 1 : 0,
    );
    if (masked) {
      // One rank has nothing but padding, wherever another has two values.
      const perSample = numberOfElements(positions);
      const none = upTo(size);
      const from = n.slice(0, none).reduce((a, b) => a + b, 0) * perSample;
      valid.fill(0, from, from + n[none]! * perSample);
      if (valid.reduce((a, b) => a + b, 0) < 2) valid.fill(1);
    }
    const x = numbers(3);
    if (masked && options.padded !== "normalize") spoil(x, valid, shape, axis);
    return { shape, x, dy: numbers(0), ...(masked ? { mask: { shape: [total, ...positions], valid } } : {}) };
  });
  const cut = (rank: number): LayerJob => ({
    kind,
    dtype,
    options,
    features: channels,
    steps: steps.map((step, i) => {
      const from = shards[i]!.slice(0, rank).reduce((a, b) => a + b, 0);
      const n = shards[i]![rank]!;
      const part = <T extends Float64Array | Int32Array>(of: T, size: number) =>
        of.slice(from * size, (from + n) * size) as T;
      const { mask } = step;
      return {
        shape: [n, ...sample],
        x: part(step.x, each),
        dy: part(step.dy, each),
        mask: mask && { shape: [n, ...positions], valid: part(mask.valid, numberOfElements(positions)) },
      };
    }),
  });
  const said = Object.entries(options).map(([k, v]) => `${k} ${v}`);
  return {
    name: `${kind} ${dtype} [${shards.join("; ")}] of [${sample}], ${said.join(", ")}`,
    whole: { kind, dtype: "float64", options: { ...options, affineGradients: "own" }, features: channels, steps },
    parts: Array.from({ length: size }, (_, rank) => cut(rank)),
  };
}

/** NaN at padded places. */
function spoil(x: Float64Array, valid: Int32Array, shape: Shape, axis: number): void {
  const a = normalizeAxis(axis, shape.length, "");
  const inner = numberOfElements(shape.slice(a + 1));
  const channels = shape[a]!;
  for (let i = 0; i < x.length; i++) {
    if (!valid[Math.floor(i / (inner * channels)) * inner + (i % inner)]) x[i] = Number.NaN;
  }
}

/** In both, NaN where it should be: the same places. */
function withoutNaN(got: readonly number[], want: readonly number[], what: string): [number[], number[]] {
  expect(got.map(Number.isNaN), what).toEqual(want.map(Number.isNaN));
  return [got.map((v) => (Number.isNaN(v) ? 0 : v)), want.map((v) => (Number.isNaN(v) ? 0 : v))];
}

function compare({ name, whole, parts }: Case, got: readonly LayerResult[], tolerance: number): void {
  const want = layerSteps(loopback, whole);
  const close = (a: readonly number[], b: readonly number[], what: string) => {
    const [found, wanted] = withoutNaN(a, b, what);
    // x and dy deviate by 1, so what gradients are made of is of order 1, and cancels to nearly nothing where a channel has two values.
    const floor = 1;
    expect(relativeError([...found, floor], [...wanted, floor]), `${what}: ${name}`).toBeLessThanOrEqual(tolerance);
  };
  const { affineGradients } = parts[0]!.options;
  for (const [i, step] of want.steps.entries()) {
    for (const what of ["y", "dx"] as const)
      close(
        got.flatMap((r) => r.steps[i]![what]),
        step[what],
        `${what}, step ${i}`,
      );
    for (const what of ["weight", "bias"] as const) {
      if (affineGradients === "own") {
        const sum = step[what].map((_, c) => got.reduce((s, r) => s + r.steps[i]![what][c]!, 0));
        close(sum, step[what], `gradient of ${what}, step ${i}`);
        continue;
      }
      const share = affineGradients === "sum" ? 1 : 1 / parts.length;
      for (const r of got) expect(r.steps[i]![what]).toEqual(got[0]!.steps[i]![what]);
      close(
        got[0]!.steps[i]![what],
        step[what].map((v) => v * share),
        `gradient of ${what}, step ${i}`,
      );
    }
  }
  for (const r of got) {
    expect([r.runningMean, r.runningVar, r.tracked]).toEqual([got[0]!.runningMean, got[0]!.runningVar, STEPS]);
  }
  close(got[0]!.runningMean, want.runningMean, "runningMean");
  close(got[0]!.runningVar, want.runningVar, "runningVar");
  close(got[0]!.evaluated, want.evaluated.slice(0, got[0]!.evaluated.length), "evaluation");
}

const kinds: readonly (readonly [Kind, Options])[] = [
  ["SyncBatchNorm", {}],
  ["BatchRenorm", { rMax: 1.3, dMax: 0.2 }],
  ["BatchRenorm", { rMax: 1e6, dMax: 1e6 }],
  ["MaskedBatchNorm", { padded: "zero" }],
  ["MaskedBatchNorm", { padded: "keep" }],
  ["MaskedBatchNorm", { padded: "normalize" }],
  ["InPlaceActivatedBatchNorm", { negativeSlope: 0.2 }],
  ["InPlaceActivatedBatchNorm", { activation: "identity" }],
  ["InPlaceActivatedBatchNorm", { affine: false }],
];

/** Against float64. */
function toleranceOf({ kind, dtype }: LayerJob): number {
  if (dtype === "float64") return 1e-12;
  // Where x is taken from y it has the rounding of y, and two or three values of a channel leave little else of dx: one process alone is off by 2.8e-6.
  if (kind === "InPlaceActivatedBatchNorm") return 4e-6;
  // With BatchRenorm, sums that partly cancel are multiplied by r and d, which are rounded themselves.
  return 1e-6;
}

const seedOf = (text: string): number => [...text].reduce((h, c) => (31 * h + c.charCodeAt(0)) | 0, 41);

describe("several ranks compute what one does with the joined batch", () => {
  for (const size of [2, 3, 4]) {
    for (const dtype of ["float64", "float32"] as const) {
      test(`${size} ranks, ${dtype}`, async () => {
        const cases = kinds.flatMap(([kind, options]) => {
          // Of its own, so that another kind of layer changes no case of this one.
          random.seed(seedOf(`${size} ${dtype} ${kind} ${JSON.stringify(options)}`));
          return Array.from({ length: 6 }, () => makeCase(kind, size, options, dtype));
        });
        const jobs = Array.from({ length: size }, (_, rank) => cases.map((c) => c.parts[rank]));
        const got = valuesOf(await ranks.run<LayerResult[]>(size, "layers", jobs));
        for (const [i, c] of cases.entries()) {
          compare(
            c,
            got.map((r) => r[i]!),
            toleranceOf(c.parts[0]!),
          );
        }
      });
    }
  }
});

/** Two ranks with a batch of [3, channels, 4] each. */
function plainJobs(kind: Kind, channels: number, options: Options, steps = 1): LayerJob[] {
  const shape = [3, channels, 4];
  const numbers = () => Float64Array.from({ length: numberOfElements(shape) }, () => random.normal());
  return [0, 1].map(() => ({
    kind,
    dtype: "float64",
    options,
    features: channels,
    steps: Array.from({ length: steps }, () => ({ shape, x: numbers(), dy: numbers() })),
  }));
}

describe("what is sent", () => {
  for (const [affineGradients, channels, numbers] of [
    ["own", 4, 8],
    ["sum", 4, 16],
    // So many gradients follow from the sums.
    ["mean", 9, 18],
  ] as const) {
    for (const kind of ["SyncBatchNorm", "InPlaceActivatedBatchNorm"] as const) {
      test(`one message each way, none in evaluation: ${kind}, affineGradients ${affineGradients}`, async () => {
        const parts = plainJobs(kind, channels, { affineGradients }, 2);
        const forward = ["forward", `gather Float64Array ${2 + 2 * channels}`];
        const backward = ["backward", `reduce Float64Array ${numbers}`];
        const first = ["forward", "gather Uint8Array", ...forward.slice(1)];
        for (const { calls } of valuesOf(await ranks.run<LayerResult>(2, "layerSteps", parts))) {
          expect(calls).toEqual([...first, ...backward, ...forward, ...backward, "evaluation"]);
        }
      });
    }
  }

  test("a weight of 0 that backward in place cannot do with: every rank throws, none waits", async () => {
    // An eps that float32 does not hold lets a weight be 0.
    const parts = plainJobs("InPlaceActivatedBatchNorm", 2, { eps: 1e-60, affineGradients: "sum" });
    for (const outcome of await ranks.run(
      2,
      "layerSteps",
      parts.map((p) => ({ ...p, dtype: "float32", weight: [1, 0] })),
    )) {
      expect(outcome).toMatchObject({
        error: "StateError",
        message: expect.stringContaining("0 as the weight of channel 1"),
      });
    }
  });

  test("ranks without a mask beside one that has it", async () => {
    const [a, b] = plainJobs("MaskedBatchNorm", 2, {});
    const [step, other] = [a!.steps[0]!, b!.steps[0]!];
    const mask = { shape: [3, 4], valid: Int32Array.of(1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0) };
    const all = { shape: [3, 4], valid: new Int32Array(12).fill(1) };
    const got = valuesOf(await ranks.run<LayerResult>(2, "layerSteps", [{ ...a!, steps: [{ ...step, mask }] }, b]));
    const want = layerSteps(loopback, {
      ...a!,
      steps: [
        {
          shape: [6, 2, 4],
          x: Float64Array.of(...step.x, ...other.x),
          dy: Float64Array.of(...step.dy, ...other.dy),
          mask: { shape: [6, 4], valid: Int32Array.of(...mask.valid, ...all.valid) },
        },
      ],
    });
    for (const what of ["y", "dx"] as const) {
      const both = got.flatMap((r) => r.steps[0]![what]);
      expect(relativeError(both, want.steps[0]![what])).toBeLessThanOrEqual(1e-13);
    }
  });

  test("a batch with NaN on one rank is left out by the guards of all", async () => {
    for (const kind of ["SyncBatchNorm", "BatchRenorm", "MaskedBatchNorm", "InPlaceActivatedBatchNorm"] as const) {
      const parts = plainJobs(kind, 2, { runningStats: "guard" }, 3);
      parts[1]!.steps[1]!.x[5] = Number.NaN;
      const [a, b] = valuesOf(await ranks.run<LayerResult>(2, "layerSteps", parts));
      expect([a!.skipped, a!.tracked, b!.skipped, b!.tracked]).toEqual([1, 2, 1, 2]);
      expect([b!.runningMean, b!.runningVar]).toEqual([a!.runningMean, a!.runningVar]);
      for (const v of [...a!.runningMean, ...a!.runningVar]) expect(v).toSatisfy(Number.isFinite);
    }
  });

  test("layers that are not alike: every rank throws", async () => {
    const [a] = plainJobs("SyncBatchNorm", 2, {});
    const said = 'of 2 channels, affineGradients "own" on rank 0; ';
    for (const [other, what] of [
      [plainJobs("BatchRenorm", 2, {})[0], 'BatchRenorm of 2 channels, affineGradients "own" on rank 1'],
      [plainJobs("SyncBatchNorm", 2, { affineGradients: "sum" })[0], 'affineGradients "sum" on rank 1'],
    ] as const) {
      for (const o of await ranks.run(2, "layerSteps", [a, other])) {
        expect(o).toMatchObject({ error: "ShapeError", message: expect.stringContaining(said) });
        expect(o).toHaveProperty("message", expect.stringContaining(what));
      }
    }
  });
});
