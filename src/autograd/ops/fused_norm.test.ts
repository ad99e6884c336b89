import { describe, expect, test } from "vitest";
import { awkwardSizes, relativeError } from "../../../tests/conformance/harness.js";
import type { DType } from "../../base/dtype.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { batchView, groupView, instanceView, layerView, type NormCase } from "../../norm/views.js";
import { gradCheck } from "../grad_check.js";
import { grad, randn, type Tensor, tensor } from "../index.js";
import { batchNorm, batchNormEval } from "./batch_norm.js";
import type { NormInputs, NormOptions } from "./fused_norm.js";
import { groupNorm } from "./group_norm.js";
import { instanceNorm } from "./instance_norm.js";
import { layerNorm } from "./layer_norm.js";
import { normByDefinition } from "./norm_definition.js";
import { rmsNorm } from "./rms_norm.js";

const eps = 1e-3;
const random = new Random(7);
const normal = (shape: Shape, dtype: DType = "float64") => randn(shape, { dtype, random });

interface Case {
  readonly name: string;
  readonly shape: Shape;
  readonly affineShape: Shape;
  readonly on: NormCase;
  readonly centred?: boolean;
  readonly given?: { mean: Tensor; variance: Tensor };
  apply(inputs: NormInputs): Tensor;
}

const batch = (shape: Shape, axis = 1): Case => ({
  name: `batch_norm ${shape}, axis ${axis}`,
  shape,
  affineShape: [shape.at(axis)!],
  on: batchView(shape, axis),
  apply: (inputs) => batchNorm(inputs, { axis, eps }).out,
});

function evaluation(shape: Shape, axis = 1): Case {
  const channels = shape.at(axis)!;
  const given = { mean: normal([channels]), variance: normal([channels]).square().add(0.5) };
  return {
    ...batch(shape, axis),
    name: `batch_norm_eval ${shape}, axis ${axis}`,
    given,
    apply: (inputs) => batchNormEval(inputs, given, { axis, eps }),
  };
}

const group = (shape: Shape, groups: number, axis = 1): Case => ({
  name: `group_norm ${shape}, ${groups} groups, axis ${axis}`,
  shape,
  affineShape: [shape.at(axis)!],
  on: groupView(shape, groups, axis),
  apply: (inputs) => groupNorm(inputs, { groups, axis, eps }),
});

const instance = (shape: Shape, axis = 1): Case => ({
  name: `instance_norm ${shape}, axis ${axis}`,
  shape,
  affineShape: [shape.at(axis)!],
  on: instanceView(shape, axis),
  apply: (inputs) => instanceNorm(inputs, { axis, eps, tracked: false }).out,
});

const layer = (shape: Shape, normalizedShape: Shape): Case => ({
  name: `layer_norm ${shape}, over ${normalizedShape}`,
  shape,
  affineShape: normalizedShape,
  on: layerView(shape, normalizedShape),
  apply: (inputs) => layerNorm(inputs, { normalizedShape, eps }),
});

const rms = (shape: Shape, normalizedShape: Shape): Case => ({
  ...layer(shape, normalizedShape),
  name: `rms_norm ${shape}, over ${normalizedShape}`,
  centred: false,
  apply: ({ x, weight }) => rmsNorm({ x, weight }, { normalizedShape, eps }),
});

/** At least three elements to a statistic: with two, xhat is +1 and -1 whatever x is, and every dx is nearly 0. */
const small = [
  batch([5, 3]),
  batch([3, 2, 5]),
  batch([2, 3, 2, 3]),
  batch([2, 2, 3, 3], -1),
  batch([4, 5], 0),
  batch([2, 2, 3, 2], 2),
  evaluation([3, 2, 5]),
  evaluation([3, 5, 2], -1),
  group([2, 4, 3], 2),
  group([2, 6], 2),
  group([2, 3, 4], 2, -1),
  group([2, 2, 4, 3], 2, 2),
  instance([2, 3, 4]),
  instance([2, 5, 3], -1),
  layer([3, 5], [5]),
  layer([2, 2, 3], [2, 3]),
  layer([2, 3, 2], [2, 3, 2]),
  rms([3, 5], [5]),
  rms([2, 2, 3], [2, 3]),
];

const sized = awkwardSizes
  .filter((n) => n >= 3)
  .flatMap((n) => [
    batch([n, 3]),
    batch([2, 3, n]),
    batch([3, n], -1),
    evaluation([3, 2, n]),
    group([2, 4, n], 2),
    group([2, n, 6], 3, -1),
    instance([2, 3, n]),
    layer([3, n], [n]),
    rms([3, n], [n]),
  ]);

const inputsFor = (c: Case, affine: "both" | "weight" | "none", dtype: DType = "float64"): NormInputs => ({
  x: normal(c.shape, dtype).mul(1.5).add(2).detach(),
  weight: affine === "none" ? null : normal(c.affineShape, dtype),
  bias: affine === "both" && c.centred !== false ? normal(c.affineShape, dtype) : null,
});

const optionsOf = ({ on, affineShape, centred, given }: Case): NormOptions => ({
  ...{ on, eps, affineShape },
  ...(centred === undefined ? {} : { centred }),
  ...(given ? { given } : {}),
});

const present = (inputs: NormInputs) => Object.values(inputs).filter((t): t is Tensor => t !== null);

/** y and the gradients to all inputs, for one random cotangent. */
function outcome(f: (inputs: NormInputs) => Tensor, inputs: NormInputs, dy: Tensor): Float64Array[] {
  const marked = Object.fromEntries(
    Object.entries(inputs).map(([name, t]) => {
      const leaf = t?.detach() ?? null;
      if (leaf) leaf.requiresGrad = true;
      return [name, leaf];
    }),
  ) as NormInputs;
  const y = f(marked);
  return [y, ...grad(y, present(marked), { gradOutput: dy })].map((t) => Float64Array.from(t.dataSync()));
}

describe("normalization ops", () => {
  for (const c of [...small, ...sized]) {
    test(`${c.name}: kernel and definition agree`, () => {
      for (const affine of ["both", "weight", "none"] as const) {
        const inputs = inputsFor(c, affine);
        const dy = normal(c.shape);
        const got = outcome(c.apply, inputs, dy);
        const want = outcome(({ x, weight, bias }) => normByDefinition(x, weight, bias, optionsOf(c)), inputs, dy);
        expect(got.length).toBe(want.length);
        for (const [i, values] of got.entries()) expect(relativeError(values, want[i]!)).toBeLessThanOrEqual(1e-12);
      }
    });
  }

  for (const c of small) {
    test(`${c.name}: gradients against central differences`, () => {
      for (const affine of ["both", "none"] as const) {
        const inputs = inputsFor(c, affine);
        const { errors } = gradCheck(
          (x, weight, bias) => c.apply({ x: x!, weight: weight ?? null, bias: bias ?? null }),
          present(inputs),
          random,
        );
        // Central differences in float64 with a step of 1e-5 are good to about 1e-9.
        for (const e of errors) expect(e).toBeLessThanOrEqual(1e-7);
      }
    });

    test(`${c.name}: the differentiable backward gives the kernel's gradients`, () => {
      for (const affine of ["both", "weight", "none"] as const) {
        const inputs = inputsFor(c, affine);
        const gradOutput = normal(c.shape);
        for (const t of present(inputs)) t.requiresGrad = true;
        const y = c.apply(inputs);
        const want = grad(y, present(inputs), { gradOutput, retainGraph: true });
        const got = grad(y, present(inputs), { gradOutput, createGraph: true });
        for (const [i, g] of got.entries()) {
          expect(g.shape).toEqual(want[i]!.shape);
          expect(relativeError(g.dataSync(), want[i]!.dataSync())).toBeLessThanOrEqual(1e-12);
        }
      }
    });

    test(`${c.name}: second derivatives against central differences`, () => {
      const { x, weight } = inputsFor(c, "weight");
      const direction = normal(c.shape);
      const { errors } = gradCheck(
        (xi, wi) => {
          const y = c.apply({ x: xi!, weight: wi!, bias: null });
          const [dx, dw] = grad(y, [xi!, wi!], { gradOutput: direction, createGraph: true });
          return dx!.add(dw!.sum());
        },
        [x, weight!],
        random,
      );
      for (const e of errors) expect(e).toBeLessThanOrEqual(1e-6);
    });
  }
});

describe("identities", () => {
  const near = (a: Tensor, b: Tensor) => expect(relativeError(a.dataSync(), b.dataSync())).toBeLessThanOrEqual(1e-13);
  const plain = (x: Tensor): NormInputs => ({ x, weight: null, bias: null });

  test("one group is layer normalization over channels and space; a group for each channel is instance", () => {
    const x = normal([3, 4, 5]);
    near(groupNorm(plain(x), { groups: 1, axis: 1, eps }), layerNorm(plain(x), { normalizedShape: [4, 5], eps }));
    const one = instanceNorm(plain(x), { axis: 1, eps, tracked: false }).out;
    near(groupNorm(plain(x), { groups: 4, axis: 1, eps }), one);
  });

  test("channels last is channels first, transposed", () => {
    const x = normal([3, 4, 5]);
    const w = normal([4]);
    const last = x.permute([0, 2, 1]);
    const back = (y: Tensor) => y.permute([0, 2, 1]);
    const inputs = (t: Tensor) => ({ x: t, weight: w, bias: null });
    near(back(batchNorm(inputs(last), { axis: -1, eps }).out), batchNorm(inputs(x), { axis: 1, eps }).out);
    near(
      back(groupNorm(inputs(last), { groups: 2, axis: -1, eps })),
      groupNorm(inputs(x), { groups: 2, axis: 1, eps }),
    );
  });

  test("batch normalization of one sample is instance normalization", () => {
    const x = normal([1, 4, 5]);
    near(batchNorm(plain(x), { axis: 1, eps }).out, instanceNorm(plain(x), { axis: 1, eps, tracked: false }).out);
  });

  test("root mean square of rows without a mean is layer normalization", () => {
    const x = normal([3, 7]);
    const flat = x.sub(x.mean(-1, true));
    near(
      rmsNorm({ x: flat, weight: null }, { normalizedShape: [7], eps }),
      layerNorm(plain(x), { normalizedShape: [7], eps }),
    );
  });
});

describe("edge cases", () => {
  const kinds = [batch([4, 3, 5]), group([4, 6, 5], 3), instance([4, 3, 5]), layer([4, 5], [5])];
  for (const dtype of ["float32", "float64"] as const) {
    for (const c of kinds) {
      test(`${c.name}, ${dtype}: zero variance gives the bias exactly and a finite gradient`, () => {
        const x = tensor(new Float64Array(c.shape.reduce((a, b) => a * b)).fill(1234.5), { shape: c.shape, dtype });
        const bias = normal(c.affineShape, dtype);
        const inputs = { x, weight: normal(c.affineShape, dtype), bias };
        const [y, ...grads] = outcome(c.apply, inputs, normal(c.shape, dtype));
        expect(y).toEqual(Float64Array.from(spread(bias, c).dataSync()));
        for (const g of grads) expect(g.every(Number.isFinite)).toBe(true);
      });
    }

    test(`NaN stays in its own statistic group, ${dtype}`, () => {
      const x = normal([2, 4, 5], dtype);
      const values = x.dataSync();
      values[0] = Number.NaN; // sample 0, channel 0
      const bad = tensor(values, { shape: x.shape, dtype });
      const touched = (y: Tensor) => [...y.dataSync()].map((v, i) => (Number.isNaN(v) ? i : -1)).filter((i) => i >= 0);
      const plain = { x: bad, weight: null, bias: null };
      const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
      expect(touched(batchNorm(plain, { axis: 1, eps }).out)).toEqual([...range(0, 5), ...range(20, 25)]);
      expect(touched(groupNorm(plain, { groups: 2, axis: 1, eps }))).toEqual(range(0, 10));
      expect(touched(instanceNorm(plain, { axis: 1, eps, tracked: false }).out)).toEqual(range(0, 5));
      expect(touched(layerNorm(plain, { normalizedShape: [5], eps }))).toEqual(range(0, 5));
      expect(touched(rmsNorm({ x: bad, weight: null }, { normalizedShape: [5], eps }))).toEqual(range(0, 5));
    });

    test(`an empty input gives an empty output and zero gradients, ${dtype}`, () => {
      const affine = { weight: normal([4], dtype), bias: normal([4], dtype) };
      const given = { mean: normal([4], dtype), variance: normal([4], dtype).square() };
      for (const shape of [
        [0, 4, 3],
        [2, 4, 0],
      ]) {
        const x = normal(shape, dtype);
        for (const f of [
          (i: NormInputs) => groupNorm(i, { groups: 2, axis: 1, eps }),
          (i: NormInputs) => batchNormEval(i, given, { axis: 1, eps }),
        ]) {
          const [y, dx, dw, db] = outcome(f, { x, ...affine }, normal(shape, dtype));
          expect([y!.length, dx!.length]).toEqual([0, 0]);
          expect([...dw!, ...db!]).toEqual(new Array(8).fill(0));
        }
      }
    });
  }

  test("values up to 1e19 in float32 have finite statistics", () => {
    const x = normal([4, 3, 33], "float32").mul(1e19);
    for (const c of [batch([4, 3, 33]), group([4, 3, 33], 3), layer([4, 3, 33], [33]), rms([4, 3, 33], [33])]) {
      const y = c.apply({ x, weight: null, bias: null }).dataSync();
      expect([...y].every((v) => Number.isFinite(v))).toBe(true);
      expect([...y].some((v) => Math.abs(v) > 1)).toBe(true);
    }
  });

  test("types and shapes that do not fit", () => {
    const x = normal([2, 3, 4]);
    const options = { axis: 1, eps };
    expect(() => batchNorm({ x: x.to("int32"), weight: null, bias: null }, options)).toThrow(DTypeError);
    expect(() => batchNorm({ x, weight: normal([3], "float32"), bias: null }, options)).toThrow(
      /x of float64 and weight of float32.*dtype: "float64"/,
    );
    expect(() => batchNorm({ x, weight: null, bias: normal([4]) }, options)).toThrow(/bias of shape \[3\].*got \[4\]/);
    expect(() =>
      batchNormEval({ x, weight: null, bias: null }, { mean: normal([2]), variance: normal([3]) }, options),
    ).toThrow(/running mean .* shape \[3\]; got \[2\]/);
    expect(() => layerNorm({ x, weight: normal([12]), bias: null }, { normalizedShape: [3, 4], eps })).toThrow(
      ShapeError,
    );
    expect(() => batchNorm({ x: normal([1, 3]), weight: null, bias: null }, options)).toThrow(ShapeError);
  });
});

/** The bias under the shape of x. */
function spread(bias: Tensor, c: Case): Tensor {
  const channelwise = c.affineShape.length === 1 && c.affineShape[0] === c.shape[1] && c.shape.length === 3;
  return (channelwise ? bias.reshape([c.shape[1]!, 1]) : bias).expand(c.shape);
}
