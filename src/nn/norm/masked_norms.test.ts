import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { concat, stack, type Tensor, tensor } from "../../autograd/index.js";
import { bucketNorm } from "../../autograd/ops/bucket_norm.js";
import { putValid, takeValid } from "../../autograd/ops/compact.js";
import type { DType } from "../../base/dtype.js";
import { DTypeError, OptionError, ShapeError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { numberOfElements, type Shape } from "../../base/shape.js";
import { compactBatch, compactSamples } from "../../norm/mask.js";
import type { Module } from "../module.js";
import { BatchNorm, GroupNorm, MaskedBatchNorm, MaskedGroupNorm, MaskedInstanceNorm } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const random = new Random(8);
const affine = ["weight", "bias"];
const running = ["running_mean", "running_var", "num_batches_tracked"];

/** Sequences of three valid steps of five, but the last sample, which has all; a lone sample has all. */
const contractMask = (_: DType, [n, , l]: Shape) => [
  tensor(
    Int32Array.from({ length: n! * l! }, (_v, i) => (i % l! < 3 || i >= (n! - 1) * l! ? 1 : 0)),
    { shape: [n!, l!] },
  ),
];

normContract({
  name: "MaskedBatchNorm",
  uncaptured: "the mask decides the shapes inside",
  make: (o) => new MaskedBatchNorm(4, o),
  shape: [3, 4, 5],
  state: [...affine, ...running],
  extra: contractMask,
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

normContract({
  name: "MaskedGroupNorm",
  uncaptured: "the mask decides the shapes inside",
  make: (o) => new MaskedGroupNorm(2, 4, o),
  shape: [3, 4, 5],
  state: affine,
  extra: contractMask,
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: true },
  constant: "finite",
  spreads: (a, b) => a[0] === b[0] && a[1]! >> 1 === b[1]! >> 1,
  sameInEval: true,
});

normContract({
  name: "MaskedInstanceNorm",
  uncaptured: "the mask decides the shapes inside",
  make: (o) => new MaskedInstanceNorm(4, o),
  shape: [3, 4, 5],
  state: [],
  extra: contractMask,
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 5], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

/** Masks over [N, ...space]: ragged lengths, one empty sample, holes inside, none padded. */
const masks: Record<string, (n: number, each: number) => number[]> = {
  lengths: (n, each) => Array.from({ length: n * each }, (_, i) => (i % each < 3 + (Math.floor(i / each) % 3) ? 1 : 0)),
  holes: (n, each) => Array.from({ length: n * each }, (_, i) => (i % 3 === 1 || i % 7 === 2 ? 0 : 1)),
  "an empty sample": (n, each) =>
    Array.from({ length: n * each }, (_, i) => (Math.floor(i / each) === 1 ? 0 : i % each ? 1 : 0)),
  full: (n, each) => Array(n * each).fill(1),
};
const layouts = [
  { name: "[N, C, L]", shape: [4, 6, 7], axis: 1 },
  { name: "[N, L, C]", shape: [4, 7, 6], axis: -1 },
  { name: "[N, C, H, W], long runs", shape: [3, 6, 2, 50], axis: 1 },
  { name: "[N, H, C, W]", shape: [3, 2, 6, 5], axis: 2 },
  { name: "[N, H, W, C]", shape: [3, 2, 4, 6], axis: -1 },
];
const CHANNELS = 6;
const positionsOf = (shape: Shape, axis: number) => shape.filter((_, i) => i !== (axis + shape.length) % shape.length);
const maskOf = (kind: string, shape: Shape, axis: number) => {
  const positions = positionsOf(shape, axis);
  const each = numberOfElements(positions.slice(1));
  return tensor(Int32Array.from(masks[kind]!(positions[0]!, each)), { shape: positions });
};

/** [N, C, positions], whatever the layout. */
const channelsFirst = (x: Tensor, axis: number) => {
  const a = (axis + x.rank) % x.rank;
  const order = [0, a, ...x.shape.map((_, i) => i).filter((i) => i !== 0 && i !== a)];
  return x.permute(order).reshape([x.shape[0]!, CHANNELS, -1]);
};

/** The valid positions of one sample as [C, V]. */
function validOf(x: Tensor, mask: Tensor, n: number): Tensor {
  const [each, m] = [mask.size / mask.shape[0]!, values(mask)];
  const columns = Array.from({ length: each }, (_, i) => i).filter((i) => m[n * each + i] === 1);
  return columns.length === 0
    ? x.narrow(0, n, 1).narrow(2, 0, 0).reshape([CHANNELS, 0])
    : stack(
        columns.map((i) => x.narrow(0, n, 1).narrow(2, i, 1).reshape([CHANNELS])),
        1,
      );
}

/** The plain layer on valid positions alone, [C, V] for each sample; those of a batch norm joined. */
function onValid(layer: Module, x: Tensor, mask: Tensor, axis: number, joined: boolean): Tensor[] {
  const first = channelsFirst(x, axis);
  const parts = Array.from({ length: x.shape[0]! }, (_, n) => validOf(first, mask, n));
  if (!joined) return parts.map((p) => (p.size ? layer.forward(p.reshape([1, ...p.shape])).reshape(p.shape) : p));
  const whole = concat(parts, 1);
  const y = layer.forward(whole.reshape([1, ...whole.shape])).reshape(whole.shape);
  let from = 0;
  return parts.map(({ shape }) => {
    from += shape[1]!;
    return y.narrow(1, from - shape[1]!, shape[1]!);
  });
}

const stir = <M extends Module>(layer: M, seed = 2): M => {
  const r = new Random(seed);
  for (const p of layer.parameters()) p.assign(Float64Array.from({ length: p.size }, () => 1 + 0.5 * r.normal()));
  return layer;
};

const kinds = [
  {
    name: "MaskedBatchNorm",
    masked: (o: object) => new MaskedBatchNorm(CHANNELS, o),
    plain: (o: object) => new BatchNorm(CHANNELS, o),
    joined: true,
  },
  {
    name: "MaskedGroupNorm",
    masked: (o: object) => new MaskedGroupNorm(3, CHANNELS, o),
    plain: (o: object) => new GroupNorm(3, CHANNELS, o),
    joined: false,
  },
  {
    name: "MaskedInstanceNorm",
    masked: (o: object) => new MaskedInstanceNorm(CHANNELS, { affine: true, ...o }),
    plain: (o: object) => new GroupNorm(CHANNELS, CHANNELS, o),
    joined: false,
  },
];

for (const { name, masked, plain, joined } of kinds) {
  describe(`${name} is the plain layer on the valid positions`, () => {
    for (const { name: layout, shape, axis } of layouts) {
      for (const kind of Object.keys(masks)) {
        test(`${layout}, ${kind}`, () => {
          const mask = maskOf(kind, shape, axis);
          const [layer, want] = [stir(masked({ axis, dtype: "float64" })), stir(plain({ dtype: "float64" }))];
          const dy = normal(shape);
          for (const mode of ["train", "eval"] as const) {
            const x = normal(shape, 2);
            x.requiresGrad = true;
            layer[mode]().zeroGrad();
            want[mode]().zeroGrad();
            const y = layer.forward(x, mask);
            y.mul(dy).sum().backward();
            const dx = x.grad!;
            x.grad = null;
            const parts = onValid(want, x, mask, axis, joined);
            const dys = parts.map((_, n) => validOf(channelsFirst(dy, axis), mask, n));
            parts
              .map((p, n) => p.mul(dys[n]!).sum())
              .reduce((a, b) => a.add(b))
              .backward();
            const got = parts.map((_, n) => validOf(channelsFirst(y, axis), mask, n));
            const all = (list: Tensor[]) => list.flatMap(values);
            expect(relativeError(all(got), all(parts)), mode).toBeLessThanOrEqual(1e-13);
            expect(relativeError(values(dx), values(x.grad)), `dx, ${mode}`).toBeLessThanOrEqual(1e-12);
            for (const [i, p] of layer.parameters().entries()) {
              expect(relativeError(values(p.grad), values(want.parameters()[i]!.grad))).toBeLessThanOrEqual(1e-12);
            }
            // 0 at every padded position, in the output and in the gradient.
            for (const t of [y, dx]) {
              const first = values(channelsFirst(t, axis));
              const each = mask.size / shape[0]!;
              const m = values(mask);
              for (const [i, v] of first.entries()) {
                const n = Math.floor(i / (CHANNELS * each));
                if (!m[n * each + (i % each)]) expect(Math.abs(v)).toBe(0);
              }
            }
          }
          for (const [k, t] of Object.entries(layer.stateDict())) {
            expect(relativeError(values(t), values(want.stateDict()[k])), k).toBeLessThanOrEqual(1e-13);
          }
        });
      }
    }
  });

  describe(name, () => {
    const [shape, mask] = [[4, CHANNELS, 7], maskOf("lengths", [4, CHANNELS, 7], 1)];

    test("what stands at padded positions reaches nothing", () => {
      const x = normal(shape, 2).cast("float32");
      const m = values(mask);
      const spoilt = tensor(
        Float32Array.from(x.dataSync(), (v, i) => (m[Math.floor(i / 42) * 7 + (i % 7)] ? v : Number.NaN)),
        { shape },
      );
      for (const padded of ["zero", "keep"] as const) {
        const layer = stir(masked({ padded }));
        const [y, want] = [values(layer.forward(spoilt, mask)), values(layer.forward(x, mask))];
        for (const [i, v] of want.entries()) {
          const valid = m[Math.floor(i / 42) * 7 + (i % 7)];
          if (valid || padded === "zero") expect(y[i]).toBe(v);
          else expect(y[i]).toBeNaN();
        }
      }
    });

    test('padded: "keep" passes x and its gradient through', () => {
      const [x, dy] = [normal(shape, 2), normal(shape)];
      const layer = masked({ padded: "keep", dtype: "float64" });
      const [zero, y] = [values(masked({ dtype: "float64" }).forward(x, mask)), values(layer.forward(x, mask))];
      x.requiresGrad = true;
      layer.forward(x, mask).mul(dy).sum().backward();
      const m = values(mask);
      for (const [i, v] of y.entries()) {
        if (m[Math.floor(i / 42) * 7 + (i % 7)]) expect(v).toBe(zero[i]);
        else expect([v, values(x.grad)[i]]).toEqual([values(x)[i], values(dy)[i]]);
      }
    });

    test("masks of every kind, and none", () => {
      const x = normal(shape).cast("float32");
      const layer = masked({});
      const want = values(layer.forward(x, mask));
      const nested = mask.toArray() as number[][];
      for (const other of [nested, nested.map((r) => r.map((v) => v === 1)), mask.cast("float32")]) {
        expect(values(layer.forward(x, other))).toEqual(want);
      }
      const full = maskOf("full", shape, 1);
      const whole = values(layer.forward(x));
      expect(values(layer.forward(x, null))).toEqual(whole);
      expect(relativeError(values(layer.forward(x, full)), whole)).toBeLessThanOrEqual(1e-6);
    });

    test("accuracy in float32 with the mean at 1e4 standard deviations", () => {
      const [at, dy] = [normal([5, CHANNELS, 70], 1e4), normal([5, CHANNELS, 70])];
      const long = maskOf("holes", at.shape, 1);
      const [small, large] = (["float32", "float64"] as const).map((dtype) => {
        const layer = stir(masked({ dtype }));
        const x = at.cast(dtype);
        x.requiresGrad = true;
        const y = layer.forward(x, long);
        y.mul(dy.cast(dtype)).sum().backward();
        return [y, x.grad!, ...layer.parameters().map((p) => p.grad!)].map((t) => t.dataSync());
      });
      for (const [i, s] of small!.entries()) expect(relativeError(s, large![i]!)).toBeLessThanOrEqual(2.5e-7);
    });

    test("what does not go", () => {
      const x = normal(shape).cast("float32");
      const layer = masked({});
      for (const bad of [[4, 6], [4, CHANNELS, 7], [7], [7, 4]]) {
        const ones = tensor(new Int32Array(numberOfElements(bad)).fill(1), { shape: bad });
        expect(() => layer.forward(x, ones)).toThrow(ShapeError);
      }
      expect(() => layer.forward(x, [[1], [1, 1], [1], [1]])).toThrow(/rows of different lengths/);
      expect(() => layer.forward(x, mask.mul(2))).toThrow(DTypeError);
      expect(() => layer.forward(x, mask.cast("float32").mul(0.5))).toThrow(/0 and 1, or of false and true; got 0.5/);
      expect(() => masked({ padded: "none" })).toThrow(OptionError);
      expect(() => masked({ paded: "zero" })).toThrow(/Did you mean "padded"/);
    });
  });
}

describe("no valid step", () => {
  const x = normal([2, 3, 4]).cast("float32");
  const nothing = tensor(new Int32Array(8), { shape: [2, 4] });

  test("batch statistics refuse it in training; evaluation gives padding", () => {
    const layer = new MaskedBatchNorm(3);
    expect(() => layer.forward(x, nothing)).toThrow(/more than one valid position; got none in an input of shape/);
    const one = [
      [0, 0, 1, 0],
      [0, 0, 0, 0],
    ];
    expect(() => layer.forward(x, one)).toThrow(/got one in an input/);
    expect(layer.numBatchesTracked!.item()).toBe(0);
    expect(values(layer.eval().forward(x, nothing))).toEqual(Array(24).fill(0));
  });

  test("samples of their own give padding, and one valid step the bias", () => {
    for (const layer of [new MaskedGroupNorm(3, 3), new MaskedInstanceNorm(3, { affine: true })]) {
      layer.bias!.assign([1, 2, 3]);
      expect(values(layer.forward(x, nothing))).toEqual(Array(24).fill(0));
      const y = values(
        layer.forward(x, [
          [0, 0, 1, 0],
          [0, 0, 0, 0],
        ]),
      );
      expect(y).toEqual([0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, ...Array(12).fill(0)]);
    }
  });

  test("sizes", () => {
    expect(() => new MaskedGroupNorm(4, 6)).toThrow(/must divide/);
    expect(() => new MaskedInstanceNorm(0)).toThrow(OptionError);
    expect(() => new MaskedInstanceNorm(2, { axis: 0 }).forward(normal([2, 3]).cast("float32"))).toThrow(ShapeError);
  });
});

checkOps(
  "group normalization of samples of several lengths",
  [
    { shape: [4, 6, 5], axis: 1, groups: 2 },
    { shape: [4, 5, 6], axis: -1, groups: 3 },
  ].map(({ shape, axis, groups }) => {
    const valid = Uint8Array.from(values(maskOf("lengths", shape, axis)));
    const { plan, buckets } = compactSamples(valid, shape, axis);
    return {
      name: `[${shape}], axis ${axis}, ${buckets.length} lengths`,
      inputs: [normal([plan.size], 1), normal([CHANNELS]), normal([CHANNELS])],
      apply: (x?: Tensor, weight?: Tensor, bias?: Tensor) =>
        bucketNorm(
          { x: x!, weight: weight!, bias: bias! },
          { buckets, channels: CHANNELS, groups, last: plan.last, eps: 1e-3 },
        ),
    };
  }),
);

checkOps(
  "compact values",
  layouts.flatMap(({ name, shape, axis }) => {
    const valid = Uint8Array.from(values(maskOf("holes", shape, axis)));
    const batch = compactBatch(valid, shape, axis).plan;
    const samples = compactSamples(valid, shape, axis).plan;
    const small = numberOfElements(shape) > 200 ? [] : [batch, samples];
    return small.flatMap((plan, i) => [
      {
        name: `${name}, ${i ? "samples" : "batch"}`,
        inputs: [normal(shape)],
        apply: (x?: Tensor) => takeValid({ x: x! }, plan),
      },
      {
        name: `${name}, ${i ? "samples" : "batch"}, back`,
        inputs: [normal([plan.size]), normal(shape)],
        apply: (v?: Tensor, base?: Tensor) => putValid({ values: v!, base: base! }, plan),
      },
    ]);
  }),
);

test("random masks: taking and putting back leaves the valid and clears the rest", () => {
  for (let i = 0; i < 30; i++) {
    const { shape, axis } = layouts[i % layouts.length]!;
    const positions = positionsOf(shape, axis);
    const valid = Uint8Array.from({ length: numberOfElements(positions) }, () => (random.uniform() < 0.6 ? 1 : 0));
    const x = normal(shape);
    for (const { plan } of [compactBatch(valid, shape, axis), compactSamples(valid, shape, axis)]) {
      const back = putValid({ values: takeValid({ x }, plan), base: null }, plan);
      const m = tensor(Float64Array.from(valid), { shape: positions });
      const a = (axis + shape.length) % shape.length;
      const broadcast = m.reshape([...shape.slice(0, a), 1, ...shape.slice(a + 1)]);
      expect(values(back)).toEqual(values(x.mul(broadcast)).map((v) => v + 0));
    }
  }
});
