import { describe, expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import type { Module } from "../../src/nn/module.js";
import {
  ActNorm,
  AdaIN,
  AdaLN,
  ConditionalBatchNorm,
  EvoNormB0,
  EvoNormS0,
  PowerNorm,
  SPADE,
  SwitchableNorm,
} from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

interface Kind {
  readonly name: string;
  readonly shape: readonly number[];
  make(dtype: DType): Module;
  /** Shape of the condition; absent where there is none. */
  readonly condition?: readonly number[];
}

const image = [6, 4, 33, 31];
const kinds: Kind[] = [
  { name: "SwitchableNorm", shape: image, make: (dtype) => new SwitchableNorm(4, { dtype }) },
  { name: "EvoNormB0", shape: image, make: (dtype) => new EvoNormB0(4, { dtype }) },
  { name: "EvoNormS0", shape: image, make: (dtype) => new EvoNormS0(4, { dtype, groups: 2 }) },
  { name: "PowerNorm", shape: image, make: (dtype) => new PowerNorm(4, { dtype }) },
  {
    name: "ConditionalBatchNorm",
    shape: image,
    condition: [6, 3],
    make: (dtype) => new ConditionalBatchNorm(4, 3, { dtype, condition: "vector" }),
  },
  { name: "AdaIN", shape: image, condition: [6, 3], make: (dtype) => new AdaIN(4, 3, { dtype }) },
  { name: "SPADE", shape: image, condition: [6, 2, 11, 31], make: (dtype) => new SPADE(4, 2, { dtype, hidden: 3 }) },
  { name: "AdaLN", shape: [5, 8, 1025], condition: [5, 3], make: (dtype) => new AdaLN(1025, 3, { dtype }) },
  {
    name: "ActNorm, given its parameters",
    shape: image,
    make(dtype) {
      const layer = new ActNorm(4, { dtype }).eval();
      layer.bias.assign([-1e4, -1e4 + 1, -1e4 - 1, -9999.5]);
      return layer;
    },
  },
];

const numbers = (n: number, of: (i: number) => number) => Float32Array.from({ length: n }, (_, i) => of(i));
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b);

function run(kind: Kind, dtype: DType, ratio: number): Tensor[] {
  const random = new Random(17);
  const draw = (shape: readonly number[], mean = 0) =>
    tensor(
      numbers(sizeOf(shape), () => mean + random.normal()),
      { shape, dtype },
    );
  const layer = kind.make(dtype);
  const [x, dy] = [draw(kind.shape, ratio), draw(kind.shape)];
  const condition = kind.condition ? [draw(kind.condition)] : [];
  if (!kind.name.startsWith("ActNorm")) {
    for (const p of layer.parameters()) p.assign(numbers(p.size, () => 1 + 0.5 * random.normal()));
  }
  const y = layer.forward(x, ...condition);
  const dx = layer.backward(dy);
  return [y, dx, ...layer.parameters().map((p) => p.grad!)];
}

/**
 * The bound of tests/accuracy/layers.test.ts, 2.5e-7 for one kernel, plus a rounding of 6e-8 for each elementwise step
 * behind it: two or three.
 */
const BOUND = 5e-7;

/**
 * The gradient to the shares of the means weighs differences between means, here about 0.03 deviations; float32 chunks
 * give each mean to 5e-8 of a deviation.
 */
const SHARES = 4e-6;

/**
 * SPADE's parameters lie behind a 3x3 convolution and its input gradient, float32 sums by Winograd's algorithm, which adds
 * and subtracts neighbouring products: some 3e-7 each.
 */
const CONVOLVED = 1e-6;

const boundOf = (name: string, i: number): number => {
  if (name === "SPADE") return CONVOLVED;
  return name === "SwitchableNorm" && i === 4 ? SHARES : BOUND;
};

describe("float32 against float64 on the same float32 input, far from 0", () => {
  for (const kind of kinds) {
    test.each([1, 1e4])(`${kind.name}, mean / std = %s`, (ratio) => {
      const [got, want] = [run(kind, "float32", ratio), run(kind, "float64", ratio)];
      const errors = got.map((t, i) => relativeError(t.dataSync(), want[i]!.dataSync()));
      for (const [i, e] of errors.entries()) {
        expect(e, `result ${i}`).toBeLessThanOrEqual(boundOf(kind.name, i));
      }
    });
  }
});
