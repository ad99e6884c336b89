import * as tf from "@tensorflow/tfjs-core";
import type { layers } from "@tensorflow/tfjs-layers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  BatchNormalization,
  GroupNormalization,
  InstanceNormalization,
  LayerNormalization,
  RMSNormalization,
  useKernels,
} from "../../src/tfjs/index.js";
import { byHand, draw, error, type Operands, type Places, placesOf, sizeOf } from "./by_hand.js";
import { start } from "./setup.js";

afterEach(() => void useKernels(true));

type Affine = { readonly scale?: boolean; readonly center?: boolean };
type Layer = layers.Layer & { gamma: unknown; beta: unknown };

interface Case {
  readonly name: string;
  readonly shape: number[];
  readonly make: (affine: Affine) => Layer;
  readonly places: Places;
  /** Shape of gamma and beta. */
  readonly weights: number[];
  readonly eps: number;
  readonly centred?: boolean;
  readonly noBeta?: true;
}

const from = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

function batch(shape: number[], axis: number): Case {
  const a = from(axis, shape.length);
  return {
    name: `BatchNormalization [${shape}] axis ${axis}`,
    shape,
    make: (affine) => new BatchNormalization({ axis, ...affine }),
    places: placesOf(
      shape,
      (i) => i[a],
      (i) => i[a]!,
    ),
    weights: [shape[a]!],
    eps: 1e-3,
  };
}

function group(shape: number[], axis: number, groups: number): Case {
  const a = from(axis, shape.length);
  const size = shape[a]! / (groups === -1 ? shape[a]! : groups);
  return {
    name: `GroupNormalization [${shape}] axis ${axis} groups ${groups}`,
    shape,
    make: (affine) => new GroupNormalization({ axis, groups, epsilon: 1e-5, ...affine }),
    places: placesOf(
      shape,
      (i) => [i[0], Math.floor(i[a]! / size)],
      (i) => i[a]!,
    ),
    weights: [shape[a]!],
    eps: 1e-5,
  };
}

const instance = (shape: number[], axis: number): Case => ({
  ...group(shape, axis, -1),
  name: `InstanceNormalization [${shape}] axis ${axis}`,
  make: (affine) => new InstanceNormalization({ axis, epsilon: 1e-5, ...affine }),
});

function layer(shape: number[], axis: number | number[], rms = false): Case {
  const named = [axis].flat().map((a) => from(a, shape.length));
  const sorted = [...named].sort((p, q) => p - q);
  // Keras gives gamma the lengths in the order named, and reads its numbers in the order of the axes.
  const flat = (i: number[]) => sorted.reduce((at, a) => at * shape[a]! + i[a]!, 0);
  const Class = rms ? RMSNormalization : LayerNormalization;
  return {
    name: `${Class.kerasName} [${shape}] axis ${JSON.stringify(axis)}`,
    shape,
    make: (affine) => new Class({ axis, ...affine }),
    places: placesOf(shape, (i) => i.filter((_, a) => !named.includes(a)), flat),
    weights: named.map((a) => shape[a]!),
    eps: rms ? 1e-6 : 1e-3,
    centred: !rms,
    ...(rms ? { noBeta: true as const } : {}),
  };
}

const cases: Case[] = [
  ...[batch([7, 5], -1), batch([4, 6, 3], 1), batch([3, 5, 2, 7], -1), batch([3, 5, 2, 7], 1)],
  ...[batch([2, 3, 4, 3, 5], -1), batch([2, 3, 4, 3, 5], 2), batch([2, 3, 2, 2, 3, 4], 1)],
  ...[group([3, 8], -1, 2), group([2, 5, 6], -1, 3), group([2, 6, 5], 1, 2), group([2, 3, 4, 6], 3, 1)],
  ...[group([2, 6, 2, 3, 2], 1, 3), group([2, 4, 3, 6], -1, -1)],
  ...[instance([2, 5, 4, 3], -1), instance([2, 3, 7], 1)],
  ...[layer([5, 9], -1), layer([3, 4, 6], [1, 2]), layer([3, 4, 6], [2, 1]), layer([2, 6, 3, 5], 1)],
  ...[layer([2, 3, 4, 5], [1, 3]), layer([2, 3, 4, 2, 3], [-1, -2, -3])],
  ...[layer([5, 9], -1, true), layer([2, 6, 3, 5], 1, true), layer([3, 4, 6], [1, 2], true)],
];

/** y and the gradients of a layer, built for x and given weights. */
function run(c: Case, o: Operands, affine: Affine) {
  tf.engine().startScope();
  try {
    const made = c.make(affine);
    const x = tf.tensor(o.x, c.shape);
    made.apply(x);
    const weights = [
      ...(made.gamma ? [tf.tensor(o.gamma, c.weights)] : []),
      ...(made.beta ? [tf.tensor(o.beta, c.weights)] : []),
    ];
    // BatchNormalization's moving statistics follow gamma and beta.
    made.setWeights([...weights, ...made.getWeights().slice(weights.length)]);
    const forward = (t: tf.Tensor) => made.apply(t, { training: true }) as tf.Tensor;
    const y = forward(x).dataSync();
    const dx = tf.grad(forward)(x, tf.tensor(o.dy, c.shape)).dataSync();
    const loss = () => tf.sum(tf.mul(forward(x), tf.tensor(o.dy, c.shape))) as tf.Scalar;
    const trainable = made.trainableWeights.map((w) => w.read() as tf.Variable);
    const grads = trainable.length > 0 ? tf.variableGrads(loss, trainable).grads : {};
    const byWeight = trainable.map((v) => grads[v.name]!.dataSync());
    const shape = forward(x).shape;
    made.dispose();
    return { y, dx, shape, dgamma: made.gamma ? byWeight[0]! : null, dbeta: made.beta ? byWeight.at(-1)! : null };
  } finally {
    tf.engine().endScope();
  }
}

const ways = [
  ["cpu", true],
  ["wasm", true],
  ["cpu", false],
] as const;

describe.each(ways)("on the %s backend, kernels %s", (backend, kernels) => {
  beforeAll(() => start(backend));

  test.each(cases)("$name: values and gradients are those written out in double", (c) => {
    useKernels(kernels);
    for (const [n, affine] of [{}, { scale: false }, { center: false }, { scale: false, center: false }].entries()) {
      if (c.noBeta && "center" in affine) continue;
      const o = draw(c.shape, sizeOf(c.weights), 11 * n + c.shape.length);
      const used = {
        ...o,
        gamma: affine.scale === false ? o.gamma.fill(1) : o.gamma,
        beta: affine.center === false || c.noBeta ? o.beta.fill(0) : o.beta,
      };
      const want = byHand(used, c.places, { eps: c.eps, centred: c.centred ?? true });
      const got = run(c, o, affine);
      expect(got.shape).toEqual(c.shape);
      // What the kernels promise of y; about three roundings of float32 for dx, and sums of a hundred terms in float32 for the rest.
      expect(error(got.y, want.y)).toBeLessThan(2.5e-7);
      expect(error(got.dx, want.dx)).toBeLessThan(3e-7);
      expect(got.dgamma === null).toBe(affine.scale === false);
      if (got.dgamma) expect(error(got.dgamma, want.dgamma)).toBeLessThan(5e-7);
      if (got.dbeta) expect(error(got.dbeta, want.dbeta)).toBeLessThan(5e-7);
    }
  });
});
