import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { noWebGPU } from "../../../tests/conformance/webgpu_mirror.js";
import { prepareRanks, type Ranks, valuesOf } from "../../../tests/distributed/ranks.js";
import { type LayerJob, type LayerResult, layerSteps, smallNet } from "../../../tests/distributed/sync_jobs.js";
import { gradCheck } from "../../autograd/grad_check.js";
import { capture, randn, type Tensor, tensor } from "../../autograd/index.js";
import { type Elements, loopback } from "../../base/communicator.js";
import type { DType } from "../../base/dtype.js";
import { OptionError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { numberOfElements } from "../../base/shape.js";
import { Checkpoint } from "../checkpoint.js";
import { Sequential } from "../sequential.js";
import {
  BatchNorm,
  BatchRenorm,
  InPlaceActivatedBatchNorm,
  MaskedBatchNorm,
  reducedGradients,
  SyncBatchNorm,
  type SyncBatchNormOptions,
} from "./index.js";
import { updateStatistics } from "./surgery/index.js";

normContract({
  name: "SyncBatchNorm",
  make: (o) => new SyncBatchNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "bias",
  spreads: [0, 2],
  sameInEval: false,
});

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
});
afterAll(() => ranks.dispose());

const STEPS = 3;

interface Case {
  readonly name: string;
  /** Samples of each rank. */
  readonly shards: readonly number[];
  readonly sample: readonly number[];
  readonly features: number | readonly number[];
  readonly mean?: number;
  readonly options?: SyncBatchNormOptions;
}

const cases: Case[] = [
  { name: "two ranks", shards: [3, 3], sample: [3, 5], features: 3 },
  { name: "unequal", shards: [1, 6, 2], sample: [3, 2, 4], features: 3 },
  { name: "the first empty", shards: [0, 4, 3], sample: [3, 7], features: 3 },
  { name: "the last empty, channels last", shards: [5, 1, 2, 0], sample: [4, 3], features: 3, options: { axis: -1 } },
  { name: "all values on one rank", shards: [0, 0, 4], sample: [3, 5], features: 3 },
  { name: "one value on each of two ranks", shards: [1, 0, 1, 1], sample: [3], features: 3 },
  { name: "a mean of 1e4", shards: [2, 5, 0, 3], sample: [3, 40], features: 3, mean: 1e4 },
  { name: "features", shards: [4, 0, 3], sample: [2, 3], features: [2, 3] },
  {
    name: "other conventions",
    shards: [2, 3],
    sample: [3, 4],
    features: 3,
    options: { normalizingVariance: "unbiased", runningVariance: "biased", momentum: null, eps: 0.1 },
  },
];

/** The batches of all ranks joined, as one job, and cut into one for each rank. */
function jobsOf({ shards, sample, features, mean = 2, options = {} }: Case, dtype: DType) {
  const random = new Random(shards.length);
  const size = numberOfElements(sample);
  const total = shards.reduce((a, b) => a + b, 0);
  const numbers = (centre: number) =>
    Float64Array.from({ length: total * size }, () => Math.fround(centre + random.normal()));
  const steps = Array.from({ length: STEPS }, () => ({ x: numbers(mean), dy: numbers(0) }));
  const cut = (from: number, n: number): LayerJob => ({
    dtype,
    options,
    features,
    steps: steps.map(({ x, dy }) => ({
      shape: [n, ...sample],
      x: x.slice(from * size, (from + n) * size),
      dy: dy.slice(from * size, (from + n) * size),
    })),
  });
  let start = 0;
  const parts = shards.map((n) => {
    start += n;
    return cut(start - n, n);
  });
  return { whole: cut(0, total), parts };
}

function compare(got: readonly LayerResult[], want: LayerResult, tolerance: number): void {
  const close = (a: readonly number[], b: readonly number[], what: string) =>
    expect(relativeError(a, b), what).toBeLessThanOrEqual(tolerance);
  for (const [i, step] of want.steps.entries()) {
    for (const what of ["y", "dx"] as const)
      close(
        got.flatMap((r) => r.steps[i]![what]),
        step[what],
        `${what}, step ${i}`,
      );
    for (const what of ["weight", "bias"] as const) {
      const sum = step[what].map((_, c) => got.reduce((s, r) => s + r.steps[i]![what][c]!, 0));
      close(sum, step[what], `gradient of ${what}, step ${i}`);
    }
  }
  for (const r of got) {
    // To the bit, whatever the ranks had.
    expect([r.runningMean, r.runningVar, r.tracked]).toEqual([got[0]!.runningMean, got[0]!.runningVar, STEPS]);
  }
  close(got[0]!.runningMean, want.runningMean, "runningMean");
  close(got[0]!.runningVar, want.runningVar, "runningVar");
  close(got[0]!.evaluated, want.evaluated.slice(0, got[0]!.evaluated.length), "evaluation");
}

describe("SyncBatchNorm over ranks is BatchNorm over the joined batch", () => {
  for (const c of cases) {
    for (const [dtype, tolerance] of [
      ["float64", 1e-12],
      ["float32", 2.5e-7],
    ] as const) {
      test(`${c.name}: [${c.shards}] of [${c.sample}], ${dtype}`, async () => {
        const { whole, parts } = jobsOf(c, dtype);
        const got = valuesOf(await ranks.run<LayerResult>(parts.length, "layerSteps", parts));
        // At 1e4 the last place of a mean is worth 1.8e-12 standard deviations.
        const limit = dtype === "float64" && c.mean ? 1e-11 : tolerance;
        // In float32 one process and several round differently, so both are held against float64.
        compare(got, layerSteps(loopback, { ...whole, dtype: "float64" }), limit);
      });
    }
  }

  for (const shards of [
    [
      [0, 4],
      [4, 10],
    ],
    [
      [0, 7],
      [7, 7],
      [7, 10],
    ],
    [
      [0, 1],
      [1, 5],
      [5, 5],
      [5, 10],
    ],
  ] as const) {
    test(`six steps of a small net on ${shards.length} ranks`, async () => {
      const got = valuesOf(
        await ranks.run<number[][]>(
          shards.length,
          "smallNet",
          shards.map(() => shards),
        ),
      );
      const want = smallNet(loopback, [[0, 10]]);
      for (const [i, w] of want.entries()) expect(relativeError(got[0]![i]!, w)).toBeLessThanOrEqual(1e-11);
      for (const other of got) expect(other).toEqual(got[0]);
    });
  }

  for (const [name, shapes, channels, error, said] of [
    [
      "all empty",
      [
        [0, 2, 3],
        [0, 2, 3],
      ],
      [2, 2],
      "ShapeError",
      /got 0 on 2 ranks together, 0 of them here/,
    ],
    [
      "one value in all",
      [
        [0, 2],
        [1, 2],
        [0, 2],
      ],
      [2, 2, 2],
      "ShapeError",
      /got 1 on 3 ranks together, [01] of them here/,
    ],
    [
      "other channels",
      [
        [2, 2],
        [2, 3],
      ],
      [2, 3],
      "ShapeError",
      /SyncBatchNorm of 2 channels.* on rank 0; SyncBatchNorm of 3 channels.* on rank 1/,
    ],
  ] as const) {
    test(`every rank throws: ${name}`, async () => {
      const inputs = shapes.map((shape, rank) => ({ shape, channels: channels[rank] }));
      for (const o of await ranks.run(shapes.length, "forward", inputs)) {
        expect(o).toMatchObject({ error });
        expect(o).toHaveProperty("message", expect.stringMatching(said));
      }
    });
  }
});

describe("SyncBatchNorm", () => {
  /** A second rank that is this one again: what it sends is the same, so two ranks stand for a batch given twice. */
  const twin = {
    ...loopback,
    size: 2,
    allGather: <T extends Elements>(data: T): T[] => [data.slice() as T, data.slice() as T],
    allReduce: (data: Float64Array | Float32Array) => data.set(data.map((v) => 2 * v)),
  };

  test("gradients, for two ranks with the same batch and the same cotangent", () => {
    // Twice the sums over twice the values: what the batch alone gives.
    const random = new Random(9);
    const inputs = [randn([3, 2, 3], { dtype: "float64", random })];
    const layer = new SyncBatchNorm(2, { dtype: "float64", communicator: twin });
    const alone = new BatchNorm(2, { dtype: "float64" });
    for (const l of [layer, alone]) l.weight!.assign([1.5, -2]);
    for (const e of gradCheck((x) => layer.forward(x!), inputs, random).errors) expect(e).toBeLessThanOrEqual(1e-7);
    const [x, dy] = [inputs[0]!, randn([3, 2, 3], { dtype: "float64", random })];
    expect(relativeError(layer.forward(x).dataSync(), alone.forward(x).dataSync())).toBeLessThanOrEqual(1e-14);
    expect(relativeError(layer.backward(dy).dataSync(), alone.backward(dy).dataSync())).toBeLessThanOrEqual(1e-13);
  });

  test("affineGradients: what stands in the gradients, and who is told", () => {
    const x = randn([3, 2, 3], { dtype: "float64", random: new Random(4) });
    const dy = randn([3, 2, 3], { dtype: "float64", random: new Random(5) });
    const layers = (["own", "sum", "mean"] as const).map((affineGradients) => {
      return new SyncBatchNorm(2, { dtype: "float64", communicator: twin, affineGradients });
    });
    const [own, sum, mean] = layers as [SyncBatchNorm, SyncBatchNorm, SyncBatchNorm];
    // In evaluation too: who leaves these parameters out of a reduction need not look at the mode.
    for (const training of [true, false]) {
      for (const layer of layers) {
        layer.train(training).zeroGrad();
        layer.forward(x);
        layer.backward(dy);
      }
      for (const name of ["weight", "bias"] as const) {
        const [a, b, c] = layers.map((l) => [...l[name]!.grad!.dataSync()]);
        expect(b).toEqual(a!.map((v) => 2 * v));
        expect(c).toEqual(a);
      }
    }
    expect(
      reducedGradients(new Sequential(own, sum, mean, new SyncBatchNorm(2, { affineGradients: "sum", affine: false }))),
    ).toEqual([
      { parameters: [sum.weight, sum.bias], communicator: twin, how: "sum" },
      { parameters: [mean.weight, mean.bias], communicator: twin, how: "mean" },
    ]);
    expect(own.reducedGradients).toBeNull();
    expect(() => new SyncBatchNorm(2, { affineGradients: "all" as never })).toThrow(OptionError);
  });

  test("in a checkpoint both runs send; running statistics move once", () => {
    const x = randn([3, 2, 3], { dtype: "float64", random: new Random(4) });
    const dy = randn([3, 2, 3], { dtype: "float64", random: new Random(5) });
    const layers = [0, 1].map(
      () => new SyncBatchNorm(2, { dtype: "float64", communicator: twin, affineGradients: "sum" }),
    );
    const results = [layers[0]!, new Checkpoint(layers[1]!)].map((module, i) => {
      const y = module.forward(x);
      const dx = module.backward(dy);
      return [y, dx, layers[i]!.weight!.grad!, ...layers[i]!.buffers()].map((t) => [...t.dataSync()]);
    });
    expect(results[1]).toEqual(results[0]);
  });

  test("updateStatistics takes in the batches of all ranks", () => {
    const batches = [3, 5].map((n) => randn([n, 2], { dtype: "float64", random: new Random(n) }));
    const [layer, alone] = [
      new SyncBatchNorm(2, { dtype: "float64", communicator: twin }),
      new BatchNorm(2, { dtype: "float64" }),
    ];
    updateStatistics(layer, batches);
    updateStatistics(alone, [...batches, ...batches]);
    for (const name of ["runningMean", "runningVar"] as const) {
      expect(relativeError(layer[name]!.dataSync(), alone[name]!.dataSync())).toBeLessThanOrEqual(1e-14);
    }
  });

  test("in a captured function it refuses, and says so", () => {
    const layer = new SyncBatchNorm(2, { communicator: twin });
    const step = capture((x: Tensor) => layer.forward(x));
    const x = randn([3, 2]);
    step(x);
    expect(() => step(x)).toThrow(/sends messages, which a captured function cannot repeat; got a training forward/);
    step.dispose();
    const evaluate = capture((y: Tensor) => layer.eval().forward(y));
    for (let i = 0; i < 3; i++) evaluate(x);
    evaluate.dispose();
  });

  test.skipIf(noWebGPU !== null)(
    "training on another device is refused before anything is sent, evaluation goes on there",
    () => {
      const never = { ...twin, allGather: () => expect.unreachable() };
      const x = randn([3, 2, 3]).to("webgpu");
      const mask = tensor([1, 1, 0, 1, 0, 0, 1, 1, 1], { shape: [3, 3] });
      for (const layer of [
        new SyncBatchNorm(2, { communicator: never }),
        new BatchRenorm(2, { communicator: never }),
        new MaskedBatchNorm(2, { communicator: never }),
        new MaskedBatchNorm(2, { communicator: never, padded: "normalize" }),
        new InPlaceActivatedBatchNorm(2, { communicator: never }),
      ]) {
        layer.to("webgpu");
        const forward = () => (layer instanceof MaskedBatchNorm ? layer.forward(x, mask) : layer.forward(x));
        expect(forward).toThrow(
          /over several ranks trains on the CPU, where their messages lie; got an input on webgpu/,
        );
        expect(layer.eval() && forward().shape).toEqual([3, 2, 3]);
      }
    },
  );

  test("types are checked before anything is sent", () => {
    const layer = new SyncBatchNorm(2, { communicator: twin });
    expect(() =>
      layer.forward(
        tensor(
          [
            [1, 2],
            [3, 4],
          ],
          { dtype: "float64" },
        ),
      ),
    ).toThrow(/x and weight of one type/);
  });

  test("what is no communicator", () => {
    for (const bad of [{}, 3, "mpi"]) {
      expect(() => new SyncBatchNorm(2, { communicator: bad as never })).toThrow(OptionError);
    }
    expect(() => new SyncBatchNorm(2, { comunicator: loopback } as object)).toThrow(/Did you mean "communicator"/);
  });
});
