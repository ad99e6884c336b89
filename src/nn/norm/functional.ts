import type { Tensor } from "../../autograd/index.js";
import { batchNormEval, batchNorm as batchNormOp } from "../../autograd/ops/batch_norm.js";
import { groupNorm as groupNormOp } from "../../autograd/ops/group_norm.js";
import { instanceNorm as instanceNormOp } from "../../autograd/ops/instance_norm.js";
import { layerNorm as layerNormOp } from "../../autograd/ops/layer_norm.js";
import { rmsNorm as rmsNormOp } from "../../autograd/ops/rms_norm.js";
import { OptionError } from "../../base/errors.js";
import {
  checkNonNegative,
  checkNumber,
  checkPositiveInteger,
  checkProbability,
  readOptions,
} from "../../base/options.js";
import { normalizeAxis, type Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";
import { checkRunning, disposeStatistics, moveRunning, type Running, slotsOf } from "./running_stats.js";

export { adaIN } from "./ada_in.js";
export { addLayerNorm, addRmsNorm } from "./add_norm.js";
export { film } from "./film.js";
export { localResponseNorm } from "./local_response_norm.js";
export { type NormalizeOptions, normalize } from "./unit_norm.js";

interface Affine extends ActivationOption {
  readonly weight?: Tensor | null;
  readonly bias?: Tensor | null;
  readonly eps?: number;
}

interface RunningAffine extends Affine {
  /** Running statistics: read in evaluation, updated in place from the input's own. Both or neither. */
  readonly runningMean?: Tensor | null;
  readonly runningVar?: Tensor | null;
  /** Weight of the new batch in the running statistics. */
  readonly momentum?: number;
  /** The channel axis; 1 unless given. */
  readonly axis?: number;
}

const affine = { weight: null as Tensor | null, bias: null as Tensor | null, ...activationDefault };
const withRunning = { ...affine, runningMean: null as Tensor | null, runningVar: null as Tensor | null, axis: 1 };

/** Batch normalization: by the batch's statistics in training, which move the running ones; else by the running ones. */
export function batchNorm(x: Tensor, options?: RunningAffine & { readonly training?: boolean }): Tensor {
  const { eps, momentum } = family.BatchNorm;
  const defaults = { ...withRunning, training: false, eps: eps as number, momentum: momentum as number };
  const o = readOptions("F.batchNorm", options, defaults);
  checkNonNegative("F.batchNorm: eps", o.eps);
  const to = { axis: o.axis, eps: o.eps, activation: readActivation("F.batchNorm", o.activation) };
  const running = runningOf("F.batchNorm", o, !o.training, "training: true");
  const inputs = { x, weight: o.weight, bias: o.bias };
  if (running && !o.training) return batchNormEval(inputs, running, to);
  const channels = x.shape[normalizeAxis(o.axis, x.rank)]!;
  if (running) checkRunning(running, channels);
  const weight = checkProbability("F.batchNorm: momentum", o.momentum);
  const { out, extra } = batchNormOp(inputs, to);
  if (running) moveRunning(running, slotsOf({ statistics: extra, repeat: 1, values: x.size / channels }), weight);
  disposeStatistics(extra);
  return out;
}

/** Instance normalization: by each sample's statistics, which move the running ones; else by the running ones. */
export function instanceNorm(x: Tensor, options?: RunningAffine & { readonly useInputStats?: boolean }): Tensor {
  const { eps, momentum } = family.InstanceNorm1d;
  const defaults = { ...withRunning, useInputStats: true, eps: eps as number, momentum: momentum as number };
  const o = readOptions("F.instanceNorm", options, defaults);
  checkNonNegative("F.instanceNorm: eps", o.eps);
  const to = { axis: o.axis, eps: o.eps, activation: readActivation("F.instanceNorm", o.activation) };
  const running = runningOf("F.instanceNorm", o, !o.useInputStats, "useInputStats: true");
  const inputs = { x, weight: o.weight, bias: o.bias };
  if (running && !o.useInputStats) return batchNormEval(inputs, running, to);
  const channels = x.shape[normalizeAxis(o.axis, x.rank)]!;
  if (running) checkRunning(running, channels);
  const weight = checkProbability("F.instanceNorm: momentum", o.momentum);
  const { out, extra } = instanceNormOp(inputs, { ...to, tracked: running !== null });
  const repeat = x.shape[0]!;
  if (running)
    moveRunning(running, slotsOf({ statistics: extra, repeat, values: x.size / (repeat * channels) }), weight);
  disposeStatistics(extra);
  return out;
}

/** Group normalization of [N, C, ...] in `numGroups` groups of channels. */
export function groupNorm(x: Tensor, numGroups: number, options?: Affine & { readonly axis?: number }): Tensor {
  const o = readOptions("F.groupNorm", options, { ...affine, eps: family.GroupNorm.eps as number, axis: 1 });
  checkPositiveInteger("F.groupNorm: numGroups", numGroups);
  checkNonNegative("F.groupNorm: eps", o.eps);
  const activation = readActivation("F.groupNorm", o.activation);
  return groupNormOp(
    { x, weight: o.weight, bias: o.bias },
    { groups: numGroups, axis: o.axis, eps: o.eps, activation },
  );
}

/** Layer normalization over the last axes, whose lengths are `normalizedShape`. */
export function layerNorm(x: Tensor, normalizedShape: number | Shape, options?: Affine): Tensor {
  const o = readOptions("F.layerNorm", options, { ...affine, eps: family.LayerNorm.eps as number });
  const shape = checkNormalizedShape("F.layerNorm", normalizedShape);
  checkNonNegative("F.layerNorm: eps", o.eps);
  const activation = readActivation("F.layerNorm", o.activation);
  return layerNormOp({ x, weight: o.weight, bias: o.bias }, { normalizedShape: shape, eps: o.eps, activation });
}

/** Root-mean-square normalization over the last axes; eps null means the machine epsilon of x's type. */
export function rmsNorm(
  x: Tensor,
  normalizedShape: number | Shape,
  options?: ActivationOption & {
    readonly weight?: Tensor | null;
    readonly eps?: number | null;
    /** Added to the weight. */
    readonly weightOffset?: number;
  },
): Tensor {
  const eps = family.RMSNorm.eps as number | null;
  const defaults = { weight: affine.weight, eps, weightOffset: 0, ...activationDefault };
  const o = readOptions("F.rmsNorm", options, defaults);
  const shape = checkNormalizedShape("F.rmsNorm", normalizedShape);
  if (o.eps !== null) checkNonNegative("F.rmsNorm: eps", o.eps);
  const weightOffset = checkNumber("F.rmsNorm: weightOffset", o.weightOffset, "a finite number", Number.isFinite);
  const activation = readActivation("F.rmsNorm", o.activation);
  return rmsNormOp({ x, weight: o.weight }, { normalizedShape: shape, eps: o.eps, weightOffset, activation });
}

function runningOf(
  owner: string,
  { runningMean, runningVar }: { runningMean: Tensor | null; runningVar: Tensor | null },
  needed: boolean,
  otherwise: string,
): Running | null {
  if (runningMean && runningVar) return { mean: runningMean, variance: runningVar };
  if (!needed && !runningMean && !runningVar) return null;
  throw new OptionError({
    rule: `${owner} takes runningMean and runningVar together${needed ? " where it does not use the input's own" : ""}`,
    got: runningMean ? "runningMean alone" : runningVar ? "runningVar alone" : "neither",
    ...(needed ? { fix: `Give both, or pass ${otherwise}` } : {}),
  });
}
