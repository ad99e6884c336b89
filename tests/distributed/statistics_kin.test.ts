import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loopback } from "../../src/base/communicator.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import { numberOfElements } from "../../src/base/shape.js";
import { relativeError } from "../conformance/harness.js";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";
import {
  type StatisticsJob,
  type StatisticsKind,
  type StatisticsResult,
  statisticsAlone,
  statisticsJobs,
} from "./statistics_jobs.js";

// Layers that several ranks compute together, against one process with the joined batch.

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
});
afterAll(() => ranks.dispose());

const random = new Random(67);
const upTo = (n: number) => Math.floor(random.uniform() * n);
const pick = <T>(of: readonly T[]): T => of[upTo(of.length)]!;

/** A case: the same layer and steps, whole and in the parts of ranks. */
interface Case {
  readonly name: string;
  readonly whole: StatisticsJob;
  readonly parts: readonly StatisticsJob[];
}

const STEPS = 4;

/** Samples of each rank in each step: as many on all, some, none on one of them, all on one of them; in the first step 4 at least. */
function shardsOf(size: number, step: number): number[] {
  if (step === 0 && random.uniform() < 0.5) return Array.from({ length: size }, () => 2);
  const shards = Array.from({ length: size }, () => Math.max(0, upTo(7) - 1));
  if (step === 1) shards.fill(0).splice(upTo(size), 1, 3);
  else if (step === 2) shards[upTo(size)] = 0;
  if (shards.reduce((a, b) => a + b) < (step === 0 ? 4 : 2)) shards[upTo(size)] = 4;
  return shards;
}

interface Described {
  readonly kind: StatisticsKind;
  readonly options: () => object;
  /** Of a sample; default any, none too. */
  readonly spaces?: readonly number[][];
  /** The largest difference in float32, against float64. */
  readonly single: number;
}

const numbers = (length: number, mean: number) =>
  Float64Array.from({ length }, () => Math.fround(mean + random.normal()));

function makeCase({ kind, options: own, spaces }: Described, size: number, dtype: DType): Case {
  const channels = pick([1, 3, 8, 11]);
  const axis = pick([1, -1]);
  const space = pick(spaces ?? [[], [1], [5], [2, 3]]);
  const sample = axis === 1 ? [channels, ...space] : [...space, channels];
  const options = { axis, ...own() };
  const each = numberOfElements(sample);
  const shards = Array.from({ length: STEPS }, (_, step) => shardsOf(size, step));
  const steps = shards.map((n) => {
    const total = n.reduce((a, b) => a + b);
    return { shape: [total, ...sample], x: numbers(total * each, 3), dy: numbers(total * each, 0) };
  });
  const cut = (rank: number): StatisticsJob => ({
    ...{ kind, dtype, options, channels },
    steps: steps.map(({ x, dy }, i) => {
      const from = shards[i]!.slice(0, rank).reduce((a, b) => a + b, 0) * each;
      const n = shards[i]![rank]!;
      const part = (of: Float64Array) => of.slice(from, from + n * each);
      return { shape: [n, ...sample], x: part(x), dy: part(dy) };
    }),
  });
  const said = Object.entries(options).map(([k, v]) => `${k} ${v}`);
  return {
    name: `${kind} ${dtype} [${shards.join("; ")}] of [${sample}], ${said.join(", ")}`,
    whole: { kind, dtype: "float64", options, channels, steps },
    parts: Array.from({ length: size }, (_, rank) => cut(rank)),
  };
}

function compare({ name, whole }: Case, got: readonly StatisticsResult[], tolerance: number): void {
  const want = statisticsAlone(whole);
  const close = (found: readonly number[], wanted: readonly number[], what: string) => {
    expect(found.every(Number.isFinite), `${what}: ${name}`).toBe(true);
    // x and dy deviate by 1, so what gradients are made of is of order 1, and cancels to nearly nothing where a channel has two values.
    const floor = 1;
    const error = relativeError([...found, floor], [...wanted, floor]);
    expect(error, `${what}: ${name}`).toBeLessThanOrEqual(tolerance);
  };
  for (const [i, step] of want.steps.entries()) {
    for (const what of ["y", "dx"] as const) {
      const all = got.flatMap((r) => r.steps[i]![what]);
      close(all, step[what], `${what}, step ${i}`);
    }
    for (const [p, wanted] of Object.entries(step.gradients)) {
      const sum = wanted.map((_, c) => got.reduce((s, r) => s + r.steps[i]!.gradients[p]![c]!, 0));
      close(sum, wanted, `gradient of ${p}, step ${i}`);
    }
  }
  for (const r of got) expect(r.state, name).toEqual(got[0]!.state);
  for (const [t, wanted] of Object.entries(want.state)) close(got[0]!.state[t]!, wanted, `${t} in the end`);
  close(got[0]!.evaluated, want.evaluated.slice(0, got[0]!.evaluated.length), "evaluation");
}

const withSpace = [[1], [5], [2, 3]];
const kinds: readonly Described[] = [
  // The gradient of v is a sum of terms of order x^2 / d^2, 10 here, of either sign.
  { kind: "EvoNormB0", options: () => ({ momentum: pick([0.1, null]) }), spaces: withSpace, single: 4e-6 },
  {
    kind: "PowerNorm",
    // All batches exact, some, none.
    options: () => ({ warmupIters: pick([100, 2, 0]), groups: pick([null, 1]), alphaFwd: 0.8, alphaBkw: 0.7 }),
    single: 5e-7,
  },
  {
    kind: "SwitchableNorm",
    options: () => ({
      momentum: pick([0.1, null]),
      normalizingVariance: pick(["biased", "unbiased"]),
      parameterGradients: pick(["sum", "mean"]),
    }),
    spaces: [[5], [2, 3]],
    single: 1e-6,
  },
  {
    kind: "SwitchableNorm",
    options: () => ({ useBatchNorm: false }),
    spaces: [[5], [2, 3]],
    single: 1e-6,
  },
  // The bias is -3 or so, in float32, and s may be 3.
  { kind: "ActNorm", options: () => ({ scale: pick(["exp", "linear"]) }), single: 2e-6 },
  { kind: "VirtualBatchNorm", options: () => ({ eps: pick([1e-5, 0.1]) }), single: 5e-7 },
];

describe("several ranks compute what one does with the joined batch", () => {
  for (const size of [2, 3, 4]) {
    for (const dtype of ["float64", "float32"] as const) {
      test(`${size} ranks, ${dtype}`, async () => {
        const cases = kinds.flatMap((kind) => {
          const tolerance = dtype === "float64" ? 1e-12 : kind.single;
          return Array.from({ length: 6 }, () => ({ ...makeCase(kind, size, dtype), tolerance }));
        });
        const jobs = Array.from({ length: size }, (_, rank) => cases.map((c) => c.parts[rank]));
        const got = valuesOf(await ranks.run<StatisticsResult[]>(size, "statisticsLayers", jobs));
        for (const [i, c] of cases.entries()) {
          const of = got.map((r) => r[i]!);
          compare(c, of, c.tolerance);
        }
      });
    }
  }
});

/** Two ranks with a batch of [3, channels, 4] each. */
function plainJobs(kind: StatisticsKind, channels: number, options: object, steps: number): StatisticsJob[] {
  const shape = [3, channels, 4];
  const drawn = (mean: number) => numbers(numberOfElements(shape), mean);
  return [0, 1].map(() => ({
    ...{ kind, dtype: "float64" as const, options, channels },
    steps: Array.from({ length: steps }, () => ({ shape, x: drawn(1), dy: drawn(0) })),
  }));
}

/** Messages of a layer of C channels: the first step's, and those of every later one. */
interface Traffic {
  readonly kind: StatisticsKind;
  readonly options?: object;
  readonly first: readonly [forward: string[], backward: string[]];
  readonly later: readonly [forward: string[], backward: string[]];
}

const C = 5;
const meeting = "gather Uint8Array";
const moments = `gather Float64Array ${2 + 2 * C}`;
const sums = `reduce Float64Array ${2 * C}`;
const along = `reduce Float64Array ${C}`;
const traffic: readonly Traffic[] = [
  { kind: "ActNorm", first: [[meeting, moments], []], later: [[], []] },
  { kind: "VirtualBatchNorm", first: [[meeting, moments], [sums]], later: [[], []] },
  { kind: "EvoNormB0", first: [[meeting, moments], [sums]], later: [[moments], [sums]] },
  { kind: "PowerNorm", first: [[meeting, moments], [along]], later: [[moments], [along]] },
  { kind: "PowerNorm", options: { warmupIters: 0 }, first: [[meeting, moments], [along]], later: [[moments], [along]] },
  { kind: "SwitchableNorm", first: [[meeting, moments], [sums]], later: [[moments], [sums]] },
  { kind: "SwitchableNorm", options: { useBatchNorm: false }, first: [[], []], later: [[], []] },
  { kind: "EvoNormB0", options: { nonlinear: false }, first: [[], []], later: [[], []] },
];

describe("what is sent", () => {
  for (const { kind, options = {}, first, later } of traffic) {
    test(`${kind} ${JSON.stringify(options)}`, async () => {
      const parts = plainJobs(kind, C, options, 3);
      const step = ([forward, backward]: Traffic["later"]) => ["forward", ...forward, "backward", ...backward];
      for (const { calls } of valuesOf(await ranks.run<StatisticsResult>(2, "statisticsSteps", parts))) {
        expect(calls).toEqual([...step(first), ...step(later), ...step(later), "evaluation"]);
      }
    });
  }
});

test("VirtualBatchNorm.setReference takes what all ranks give, and some nothing", async () => {
  const x = numbers(7 * 3 * 2, 3);
  const part = (from: number, to: number) => ({ shape: [to - from, 3, 2], x: x.slice(6 * from, 6 * to) });
  type State = Record<string, number[]>;
  const parts = [part(0, 0), part(0, 5), part(5, 6), part(6, 7)];
  const got = valuesOf(await ranks.run<State>(4, "setReference", parts));
  const want = statisticsJobs.setReference(loopback, part(0, 7));
  for (const r of got) expect(r).toEqual(got[0]);
  expect(got[0]!.reference_count).toEqual([14]);
  for (const name of ["reference_mean", "reference_var"]) {
    expect(relativeError(got[0]![name]!, want[name]!)).toBeLessThanOrEqual(1e-15);
  }
  const spoilt = [...parts.slice(0, 3), { ...parts[3]!, x: x.slice(36).fill(Number.NaN, 3, 4) }];
  for (const o of await ranks.run(4, "setReference", spoilt)) expect(o).toMatchObject({ error: "NonFiniteError" });
});

test("a batch with NaN on one rank is left out by the guards of all", async () => {
  for (const kind of ["EvoNormB0", "PowerNorm", "SwitchableNorm"] as const) {
    const parts = plainJobs(kind, 2, { runningStats: "guard" }, 3);
    parts[1]!.steps[1]!.x[5] = Number.NaN;
    const [a, b] = valuesOf(await ranks.run<StatisticsResult>(2, "statisticsSteps", parts));
    expect([a!.skipped, b!.skipped]).toEqual([1, 1]);
    expect(b!.state).toEqual(a!.state);
    for (const [name, t] of Object.entries(a!.state)) expect(t.every(Number.isFinite), `${kind}: ${name}`).toBe(true);
  }
});

describe("what does not go", () => {
  for (const { kind, options = {}, first } of traffic) {
    if (first[0].length === 0) continue;
    test(`${kind} ${JSON.stringify(options)}: too few values on all ranks, and unlike layers: every rank throws`, async () => {
      // Instance statistics need two values of their own.
      const input = { kind, options, shape: kind === "SwitchableNorm" ? [0, 3, 2] : [1, 3, 1] };
      for (const o of await ranks.run(3, "tooFewValues", [input, input, input])) {
        expect(o).toMatchObject({ error: "ShapeError", message: expect.stringContaining(kind) });
      }
      const pair = [
        [kind, 3],
        [kind, 4],
      ];
      for (const o of await ranks.run(2, "unlikeLayers", [pair, pair])) {
        const message = `${kind} of 3 channels on rank 0; ${kind} of 4 channels on rank 1`;
        expect(o).toMatchObject({ error: "ShapeError", message: expect.stringContaining(message) });
      }
    });
  }
});
