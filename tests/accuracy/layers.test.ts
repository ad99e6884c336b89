import { describe, expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import type { Module } from "../../src/nn/module.js";
import { BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm, RMSNorm } from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

/**
 * The promise for float32 on the CPU: max |y - y64| / max |y64| <= 2.5e-7 for |mean| / std from 0 to 1e6, and the same
 * for gradients up to 1e4. y64 is the same layer in float64 on the same float32 input; the float64 layers are held
 * against torch in tests/golden.
 */
const BOUND = 2.5e-7;

interface Kind {
  readonly name: string;
  readonly shape: readonly number[];
  make(dtype: DType): Module;
}

const image = [6, 6, 33, 31];
const rows = [40, 1025];
const kinds: Kind[] = [
  { name: "BatchNorm2d", shape: image, make: (dtype) => new BatchNorm2d(6, { dtype }) },
  {
    name: "BatchNorm2d, channels last",
    shape: [6, 33, 31, 6],
    make: (dtype) => new BatchNorm2d(6, { dtype, axis: -1 }),
  },
  { name: "GroupNorm", shape: image, make: (dtype) => new GroupNorm(3, 6, { dtype }) },
  {
    name: "GroupNorm, channels last",
    shape: [6, 33, 31, 6],
    make: (dtype) => new GroupNorm(3, 6, { dtype, axis: -1 }),
  },
  { name: "LayerNorm", shape: rows, make: (dtype) => new LayerNorm(1025, { dtype }) },
  { name: "InstanceNorm2d", shape: image, make: (dtype) => new InstanceNorm2d(6, { dtype, affine: true }) },
  // eps null differs between the two types; here both get float32's.
  { name: "RMSNorm", shape: rows, make: (dtype) => new RMSNorm(1025, { dtype, eps: 2 ** -23 }) },
];

const numbers = (n: number, of: (i: number) => number) => Float32Array.from({ length: n }, (_, i) => of(i));

interface Results {
  readonly y: Tensor;
  readonly dx: Tensor;
  readonly parameterGrads: readonly Tensor[];
}

function run(kind: Kind, dtype: DType, x: Float32Array, dy: Float32Array, seed: number, evaluate: boolean): Results {
  const random = new Random(seed);
  const as = (v: Float32Array) => tensor(v, { shape: kind.shape, dtype });
  const layer = kind.make(dtype);
  for (const p of layer.parameters()) p.assign(numbers(p.size, () => 1 + 0.5 * random.normal()));
  if (evaluate) {
    // Both types evaluate with the same float32 running statistics: near the input's own, as after training.
    const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
    const [runningMean, runningVar] = layer.buffers();
    runningMean!.assign(numbers(runningMean!.size, (c) => mean + 0.1 * c));
    runningVar!.assign(numbers(runningVar!.size, (c) => 1 + 0.1 * c));
    layer.eval();
  }
  const y = layer.forward(as(x));
  const dx = layer.backward(as(dy));
  return { y, dx, parameterGrads: layer.parameters().map((p) => p.grad!) };
}

function errors(kind: Kind, x: Float32Array, evaluate = false): { y: number; gradients: number[] } {
  const random = new Random(99);
  const dy = numbers(x.length, () => random.normal());
  const got = run(kind, "float32", x, dy, 5, evaluate);
  const want = run(kind, "float64", x, dy, 5, evaluate);
  const of = (a: Tensor, b: Tensor) => relativeError(a.dataSync(), b.dataSync());
  const grads = got.parameterGrads.map((g, i) => of(g, want.parameterGrads[i]!));
  return { y: of(got.y, want.y), gradients: [of(got.dx, want.dx), ...grads] };
}

describe("accuracy of the normalization layers in float32", () => {
  for (const kind of kinds) {
    const n = kind.shape.reduce((a, b) => a * b);

    for (const ratio of [0, 1, 1e2, 1e4, 1e6]) {
      test(`${kind.name}, mean / std = ${ratio}`, () => {
        const random = new Random(3);
        const x = numbers(n, () => ratio + random.normal());
        const { y, gradients } = errors(kind, x);
        expect(y, "y").toBeLessThanOrEqual(BOUND);
        if (ratio <= 1e4) for (const g of gradients) expect(g, "gradients").toBeLessThanOrEqual(BOUND);
      });
    }

    test(`${kind.name}, the first elements 1e6 standard deviations away`, () => {
      const random = new Random(4);
      const far = new Set([0, 1, 2, 3]);
      const x = numbers(n, (i) => (far.has(i) ? 1e6 : 0) + random.normal());
      expect(errors(kind, x).y).toBeLessThanOrEqual(BOUND);
    });

    test(`${kind.name}, sorted input`, () => {
      const random = new Random(5);
      const x = numbers(n, () => 1e4 + random.normal()).sort();
      const { y, gradients } = errors(kind, x);
      for (const e of [y, ...gradients]) expect(e).toBeLessThanOrEqual(BOUND);
    });
  }

  for (const ratio of [0, 1, 1e2, 1e4, 1e6]) {
    test(`BatchNorm2d in evaluation, mean / std = ${ratio}`, () => {
      const random = new Random(6);
      const x = numbers(
        image.reduce((a, b) => a * b),
        () => ratio + random.normal(),
      );
      const { y, gradients } = errors(kinds[0]!, x, true);
      for (const e of [y, ...gradients]) expect(e).toBeLessThanOrEqual(BOUND);
    });
  }
});
