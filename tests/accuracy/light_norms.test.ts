import { describe, expect, test } from "vitest";
import { randn, type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import type { Shape } from "../../src/base/shape.js";
import type { Module } from "../../src/nn/module.js";
import {
  FilterResponseNorm,
  GRN,
  LayerNorm2d,
  LocalResponseNorm,
  MapLRN,
  MeanVarianceNorm,
  ScaleNorm,
  UnitNorm,
} from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

// NUMERICS: 2.5e-7 of the largest value for y, dx and the gradients of the parameters, at means of 10,000 deviations.
const LIMIT = 2.5e-7;

const random = new Random(5);
const draw = (shape: Shape) => Float64Array.from(randn(shape, { dtype: "float64", random }).dataSync());

interface Kind {
  readonly name: string;
  readonly make: (options: { dtype: DType }) => Module;
  readonly shape: Shape;
  /** Its gradient is a product of powers of x that float32 has no room for at 1e19. */
  readonly window?: true;
}

const kinds: Kind[] = [
  { name: "UnitNorm", make: (o) => new UnitNorm(-1, o), shape: [33, 129] },
  { name: "UnitNorm over axis 1", make: (o) => new UnitNorm(1, o), shape: [5, 65, 33] },
  { name: "ScaleNorm", make: (o) => new ScaleNorm(8, o), shape: [33, 65] },
  { name: "MeanVarianceNorm", make: (o) => new MeanVarianceNorm(o), shape: [4, 9, 7, 11] },
  { name: "MeanVarianceNorm of rows", make: (o) => new MeanVarianceNorm({ axes: [2, 3], ...o }), shape: [4, 9, 7, 11] },
  {
    name: "MeanVarianceNorm, permuted",
    make: (o) => new MeanVarianceNorm({ axes: [1, 3], ...o }),
    shape: [4, 9, 7, 11],
  },
  { name: "FilterResponseNorm", make: (o) => new FilterResponseNorm(9, o), shape: [4, 9, 7, 11] },
  {
    name: "FilterResponseNorm, channels last",
    make: (o) => new FilterResponseNorm(11, { axis: -1, ...o }),
    shape: [4, 9, 7, 11],
  },
  { name: "GRN", make: (o) => new GRN(9, o), shape: [4, 9, 7, 11] },
  { name: "GRN, channels last", make: (o) => new GRN(11, { axis: -1, ...o }), shape: [4, 9, 7, 11] },
  { name: "LayerNorm2d", make: (o) => new LayerNorm2d(33, o), shape: [3, 33, 7, 11] },
  // A large alpha, so that the window counts for most of the denominator.
  {
    name: "LocalResponseNorm",
    make: (o) => new LocalResponseNorm(5, { alpha: 1, ...o }),
    shape: [3, 17, 11],
    window: true,
  },
  { name: "MapLRN", make: (o) => new MapLRN(3, { alpha: 1, ...o }), shape: [3, 5, 7, 11], window: true },
];

/** y, dx and parameter gradients of a layer in one type, for the same float32 numbers. */
function run(make: Kind["make"], dtype: DType, shape: Shape, x: Float64Array, dy: Float64Array): number[][] {
  const layer = make({ dtype });
  const stir = new Random(9);
  for (const p of layer.parameters()) {
    const start = p.dataSync();
    p.assign(Float64Array.from(start, (v) => Math.fround(v + 0.25 * stir.normal())));
  }
  const y = layer.forward(tensor(Float64Array.from(x), { shape, dtype }));
  const dx = layer.backward(tensor(Float64Array.from(dy), { shape, dtype }));
  const all: (Tensor | null)[] = [y, dx, ...layer.parameters().map((p) => p.grad)];
  return all.map((t) => [...t!.dataSync()]);
}

const errorsOf = ({ make, shape }: Kind, x: Float64Array, dy: Float64Array): number[] => {
  const want = run(make, "float64", shape, x, dy);
  return run(make, "float32", shape, x, dy).map((got, i) => relativeError(got, want[i]!));
};

describe.each(kinds)("$name in float32", (kind) => {
  const dy = draw(kind.shape).map(Math.fround);

  test.each([0, 1, 1e4])("at a mean of %d deviations", (mean) => {
    const x = draw(kind.shape).map((v) => Math.fround(mean + v));
    for (const e of errorsOf(kind, x, dy)) expect(e).toBeLessThanOrEqual(LIMIT);
  });

  test("with values up to 1e19", () => {
    const x = draw(kind.shape).map((v) => Math.fround(1e19 * Math.sin(v)));
    const [y, dx] = errorsOf(kind, x, dy);
    expect(y).toBeLessThanOrEqual(LIMIT);
    if (!kind.window) expect(dx).toBeLessThanOrEqual(LIMIT);
  });
});
