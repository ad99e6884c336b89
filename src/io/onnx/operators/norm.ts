import type { Tensor } from "../../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../../autograd/ops/batch_norm.js";
import { groupNorm } from "../../../autograd/ops/group_norm.js";
import { layerNorm } from "../../../autograd/ops/layer_norm.js";
import { localResponseNorm } from "../../../autograd/ops/local_response_norm.js";
import { meanVarianceNorm } from "../../../autograd/ops/mean_variance_norm.js";
import { rmsNorm } from "../../../autograd/ops/rms_norm.js";
import { vectorNorm } from "../../../autograd/ops/vector_norm.js";
import { ShapeError } from "../../../base/errors.js";
import { checkNonNegative, checkPositiveInteger } from "../../../base/options.js";
import { formatShape, normalizeAxes, normalizeAxis, type Shape, sameShape } from "../../../base/shape.js";
import { moveRunning, runningStatsMove, slotsOf } from "../../../nn/norm/running_stats.js";
import { float, int, ints, needed } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";

/** A scale or shift in the type of what it meets: opset 15 lets them differ. */
const like = (t: Tensor | null, x: Tensor): Tensor | null => (t ? t.cast(x.dtype) : null);

const epsilonOf = (call: Call): number => checkNonNegative("epsilon", call.float("epsilon"));

/**
 * Batch normalization in evaluation, or by the batch's own statistics: where the model trains, and where the file says so. Running
 * statistics weigh the old value by `momentum` and take the batch's biased variance; only a model in training changes its own.
 */
function batchNormalization(call: Call, exportedTraining: boolean) {
  const x = call.tensor(0);
  const inputs = { x, weight: like(call.tensor(1), x), bias: like(call.tensor(2), x) };
  const running = { mean: call.tensor(3), variance: call.tensor(4) };
  const to = { axis: 1, eps: epsilonOf(call) };
  if (!exportedTraining && !call.training) return batchNormEval(inputs, running, to);
  const { out, extra } = batchNorm(inputs, { ...to, allowLone: !call.training });
  const old = call.float("momentum");
  const batch = { mean: extra.mean!, variance: extra.variance };
  const moved = (kind: "mean" | "variance"): Tensor =>
    running[kind]
      .detach()
      .mul(old)
      .add(batch[kind].cast(running[kind].dtype).mul(1 - old));
  const results = exportedTraining && call.outputs > 1 ? [moved("mean"), moved("variance")] : [];
  if (call.training && call.ownsStatistics && runningStatsMove()) {
    const values = x.size / Math.max(1, x.shape[1] ?? 1);
    moveRunning(running, slotsOf({ statistics: extra, repeat: 1, values }), 1 - old, "biased");
  }
  // Opset 9 to 13 name two more: the batch's own mean and variance.
  return [out, ...results, ...results.map((_, i) => (i === 0 ? batch.mean : batch.variance).cast(x.dtype))];
}

/** Weight and bias of one number a group, as opset 18 has them, for each channel of the groups. */
function perChannel(t: Tensor, groups: number, channels: number): Tensor {
  if (!sameShape(t.shape, [groups])) {
    const rule = `GroupNormalization of opset 18 takes scale and bias of shape [${groups}], one number for each group`;
    throw new ShapeError({ rule, got: formatShape(t.shape) });
  }
  const each = channels / groups;
  if (!Number.isInteger(each)) return t;
  return t.reshape([groups, 1]).expand([groups, each]).reshape([channels]);
}

function groupNormalization(call: Call, affine: (t: Tensor, groups: number, channels: number) => Tensor) {
  const x = call.tensor(0);
  const groups = checkPositiveInteger("num_groups", call.int("num_groups"));
  const [weight, bias] = [1, 2].map((i) => affine(call.tensor(i).cast(x.dtype), groups, x.shape[1] ?? 0));
  return groupNorm({ x, weight: weight!, bias: bias! }, { groups, axis: 1, eps: epsilonOf(call) });
}

/** The axes from the attribute `axis` on, and their lengths. */
function trailing(x: Tensor, call: Call): { axes: number[]; shape: Shape } {
  const first = normalizeAxis(call.int("axis"), x.rank);
  const axes = x.shape.map((_, i) => i).slice(first);
  return { axes, shape: x.shape.slice(first) };
}

/**
 * y = f(x) scale + shift. Of the normalized shape both go through the layer's own kernel; of others that broadcast to it they come
 * after it.
 */
export function withAffine(
  x: Tensor,
  scale: Tensor | null,
  shift: Tensor | null,
  shape: Shape,
  norm: (weight: Tensor | null, bias: Tensor | null) => Tensor,
): Tensor {
  const fits = [scale, shift].every((t) => !t || sameShape(t.shape, shape));
  if (fits) return norm(like(scale, x), like(shift, x));
  const plain = norm(null, null);
  const scaled = scale ? plain.mul(scale) : plain;
  const y = shift ? scaled.add(shift) : scaled;
  if (sameShape(y.shape, x.shape)) return y;
  const got = [scale, shift].map((t) => (t ? formatShape(t.shape) : "none")).join(" and ");
  throw new ShapeError({ rule: `Scale and bias broadcast to ${formatShape(shape)}`, got });
}

function layerNormalization(call: Call) {
  const x = call.tensor(0);
  const eps = epsilonOf(call);
  const { axes, shape } = trailing(x, call);
  const y = withAffine(x, call.tensor(1), call.optionalTensor(2), shape, (weight, bias) =>
    layerNorm({ x, weight, bias }, { normalizedShape: shape, eps }),
  );
  if (call.outputs === 1) return y;
  const deviation = () => x.variance(axes, { correction: 0, keepDim: true }).add(eps).rsqrt();
  return [y, x.mean(axes, true), call.outputs > 2 ? deviation() : null];
}

function rmsNormalization(call: Call) {
  const x = call.tensor(0);
  const eps = epsilonOf(call);
  const { shape } = trailing(x, call);
  return withAffine(x, call.tensor(1), null, shape, (weight) =>
    rmsNorm({ x, weight }, { normalizedShape: shape, eps }),
  );
}

function lpNormalization(call: Call): Tensor {
  const x = call.tensor(0);
  const p = call.int("p");
  // The smallest normal float32: vectors of zeros stay zeros.
  return vectorNorm(x, { p, axes: [normalizeAxis(call.int("axis"), x.rank)], eps: 2 ** -126 });
}

const epsilon = float(1e-5);
const stash = { stash_type: int(1) };

export const normOperators: OperatorTable = {
  BatchNormalization: [
    {
      since: 9,
      inputs: [5, 5],
      outputs: 5,
      attributes: { epsilon, momentum: float(0.9) },
      ...{ learned: [1, 2], affine: true, statistics: [3, 4], varies: true },
      run: (call) => batchNormalization(call, call.outputs > 1),
    },
    {
      since: 14,
      inputs: [5, 5],
      outputs: 3,
      attributes: { epsilon, momentum: float(0.9), training_mode: int(0) },
      ...{ learned: [1, 2], affine: true, statistics: [3, 4], varies: true },
      run: (call) => batchNormalization(call, call.flag("training_mode")),
    },
  ],
  InstanceNormalization: {
    since: 6,
    inputs: [3, 3],
    attributes: { epsilon },
    ...{ learned: [1, 2], affine: true },
    run(call) {
      const x = call.tensor(0);
      const inputs = { x, weight: like(call.tensor(1), x), bias: like(call.tensor(2), x) };
      // One channel to a group; a channel of one value gives the bias, as in the other runtimes.
      return groupNorm(inputs, { groups: x.shape[1] ?? 1, axis: 1, eps: epsilonOf(call) });
    },
  },
  GroupNormalization: [
    {
      since: 18,
      inputs: [3, 3],
      attributes: { epsilon, num_groups: needed("int") },
      ...{ learned: [1, 2], affine: true },
      run: (call) => groupNormalization(call, perChannel),
    },
    {
      since: 21,
      inputs: [3, 3],
      attributes: { epsilon, num_groups: needed("int"), ...stash },
      ...{ learned: [1, 2], affine: true },
      run: (call) => groupNormalization(call, (t) => t),
    },
  ],
  LayerNormalization: {
    since: 17,
    inputs: [2, 3],
    outputs: 3,
    attributes: { axis: int(-1), epsilon, ...stash },
    ...{ learned: [1, 2], affine: true },
    run: layerNormalization,
  },
  RMSNormalization: {
    since: 23,
    inputs: [2, 2],
    attributes: { axis: int(-1), epsilon, ...stash },
    ...{ learned: [1], affine: true },
    run: rmsNormalization,
  },
  LRN: {
    since: 1,
    inputs: [1, 1],
    attributes: { alpha: float(1e-4), beta: float(0.75), bias: float(1), size: needed("int") },
    run(call) {
      const size = checkPositiveInteger("size", call.int("size"));
      const numbers = { alpha: call.float("alpha"), beta: call.float("beta"), k: call.float("bias") };
      return localResponseNorm(call.tensor(0), { axis: 1, size, ...numbers, divide: "size", lean: "right" });
    },
  },
  MeanVarianceNormalization: {
    since: 9,
    inputs: [1, 1],
    attributes: { axes: ints([0, 2, 3]) },
    run(call) {
      const x = call.tensor(0);
      return meanVarianceNorm(x, { axes: normalizeAxes(call.ints("axes")!, x.rank), eps: 1e-9 });
    },
  },
  LpNormalization: {
    since: 1,
    inputs: [1, 1],
    attributes: { axis: int(-1), p: int(2) },
    lacks: (attributes) => ([1, 2].includes(attributes.get("p") as number) ? null : `p = ${attributes.get("p")}`),
    run: lpNormalization,
  },
};
