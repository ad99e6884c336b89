import { ShapeError } from "../../base/errors.js";
import { formatShape, normalizeAxis, numberOfElements, type Shape, sameShape } from "../../base/shape.js";
import { checkInstanceStatistics } from "../../norm/checks.js";
import { instanceView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { channelAffine } from "./channel_affine.js";
import { checkFloating } from "./floating.js";
import { defineNorm } from "./fused_norm.js";
import { instanceMoments } from "./instance_moments.js";

/** What a condition gives: one scale and one shift for each sample and channel, both [N, C]. */
export interface SampleAffine {
  readonly x: Tensor;
  readonly gamma: Tensor;
  readonly beta: Tensor;
}

const normalized = defineNorm("conditional_instance_norm");

function checkInputs(owner: string, { x, gamma, beta }: SampleAffine, axis: number): number {
  const a = normalizeAxis(axis, x.rank, `${owner}: the channel axis`);
  if (a === 0) throw new ShapeError({ rule: `${owner}: axis 0 is the batch`, got: `channels on axis ${axis}` });
  checkFloating(owner, x, { gamma, beta });
  for (const [name, t] of Object.entries({ gamma, beta })) {
    const shape = [x.shape[0]!, x.shape[a]!];
    if (sameShape(t.shape, shape)) continue;
    throw new ShapeError({
      rule: `${owner} takes ${name} of shape ${formatShape(shape)}, one value for each sample and channel of x ${formatShape(x.shape)}`,
      got: formatShape(t.shape),
    });
  }
  return a;
}

/** x [N, C, ...] with every (sample, channel) as a channel of one sample, so that the kernels take [N * C] of a kind. */
const merged = ({ shape }: Tensor): Shape => [1, shape[0]! * shape[1]!, numberOfElements(shape.slice(2))];
const flat = (t: Tensor): Tensor => t.reshape([t.size]);

/** [N, C] as it broadcasts against x with channels on axis a. */
const spread = (t: Tensor, x: Tensor, a: number): Tensor =>
  t.reshape(x.shape.map((d, i) => (i === 0 || i === a ? d : 1)));

/**
 * y = gamma x + beta for each sample and channel. With channels behind the batch axis it is one pass of a kernel, and
 * so is its backward; elsewhere two broadcasts. dx = gamma dy, dgamma = sum of dy x and dbeta = sum of dy over the
 * positions of a sample.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; gamma and beta [N, C].
 * Saves:  x and gamma.
 * Throws: DTypeError if the types differ, ShapeError if gamma or beta is not [N, C].
 * Source: Perez et al. 2018, arXiv:1709.07871.
 */
export function sampleAffine(inputs: SampleAffine, axis: number, owner: string): Tensor {
  const { x, gamma, beta } = inputs;
  const a = checkInputs(owner, inputs, axis);
  if (a !== 1 || x.rank === 2) return x.mul(spread(gamma, x, a)).add(spread(beta, x, a));
  return channelAffine({ x: x.reshape(merged(x)), weight: flat(gamma), bias: flat(beta) }).reshape(x.shape);
}

/**
 * Instance normalization whose weight and bias differ from sample to sample: y = gamma xhat + beta, in one pass where
 * channels follow the batch axis. Backward as in fused_norm.ts, gamma and beta with sums over one sample each.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`, rank 3 or more; gamma and beta [N, C].
 * Throws: ShapeError if a sample has one value for each channel.
 */
export function instanceNormBySample(inputs: SampleAffine, axis: number, eps: number, owner: string): Tensor {
  const { x, gamma, beta } = inputs;
  const a = checkInputs(owner, inputs, axis);
  checkInstanceStatistics(owner, x.shape, instanceView(x.shape, axis), false);
  if (a === 1) {
    const rows = x.reshape(merged(x));
    const options = { on: instanceView(rows.shape), eps, affineShape: [gamma.size] };
    return normalized({ x: rows, weight: flat(gamma), bias: flat(beta) }, options).reshape(x.shape);
  }
  const plain = normalized({ x, weight: null, bias: null }, { on: instanceView(x.shape, axis), eps, affineShape: [] });
  return sampleAffine({ x: plain, gamma, beta }, axis, owner);
}

/**
 * Mean and standard deviation sqrt(variance + eps) of each sample and channel, in x's type; differentiable.
 *
 * Shapes: x [N, C, ...], rank 3 or more; results [N, C].
 */
export function sampleStatistics(x: Tensor, eps: number): { mean: Tensor; std: Tensor } {
  const { mean, variance } = instanceMoments(x, 1);
  return { mean: mean.cast(x.dtype), std: variance.add(eps).sqrt().cast(x.dtype) };
}
