import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import { StateError } from "../../base/errors.js";
import { checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { numberOfElements, type Shape } from "../../base/shape.js";
import { checkChannels, checkFeatures } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkAxis, type RunningNorm } from "./running_norm.js";

export interface FrozenBatchNormOptions extends PlacementOptions {
  readonly eps?: number;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/**
 * Batch normalization that learns and follows nothing: y = weight (x - running_mean) / sqrt(running_var + eps) + bias in
 * training as in evaluation. Weight and bias are buffers, so that optimizers do not see them; only x gets a gradient.
 */
export class FrozenBatchNorm extends Module {
  declare weight: Tensor;
  declare bias: Tensor;
  declare runningMean: Tensor;
  declare runningVar: Tensor;
  readonly numFeatures: number;
  readonly featureShape: Shape;
  eps: number;
  readonly axis: number;

  constructor(numFeatures: number | Shape, options?: FrozenBatchNormOptions) {
    super();
    const list = typeof numFeatures === "object" ? numFeatures : [numFeatures];
    this.featureShape = list.map((d) => checkPositiveInteger("FrozenBatchNorm: numFeatures", d));
    this.numFeatures = numberOfElements(this.featureShape);
    const o = readOptions("FrozenBatchNorm", options, {
      eps: family.FrozenBatchNorm.eps as number,
      axis: 1,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative("FrozenBatchNorm: eps", o.eps);
    this.axis = checkAxis("FrozenBatchNorm", o.axis);
    this.registerBuffer("weight", ones(this.featureShape, placed));
    this.registerBuffer("bias", zeros(this.featureShape, placed));
    this.registerBuffer("runningMean", zeros(this.featureShape, placed));
    this.registerBuffer("runningVar", ones(this.featureShape, placed), { least: 0 });
  }

  /** A frozen copy of a batch normalization as it evaluates now. Throws StateError if that has no running statistics. */
  static from(bn: RunningNorm): FrozenBatchNorm {
    const { weight, bias, runningMean, runningVar, eps, axis, featureShape } = bn;
    if (!runningMean || !runningVar) {
      throw new StateError({
        rule: "FrozenBatchNorm.from takes a layer with running statistics",
        got: `${bn.constructor.name} with trackRunningStats: false`,
      });
    }
    const shape = bn.perFeature ? featureShape : featureShape[0]!;
    const frozen = new FrozenBatchNorm(shape, { eps, axis, dtype: runningMean.dtype, device: runningMean.device });
    // Features may share an affine.
    if (weight) frozen.weight.assign(weight.detach().expand(featureShape));
    if (bias) frozen.bias.assign(bias.detach().expand(featureShape));
    frozen.runningMean.assign(runningMean);
    frozen.runningVar.assign(runningVar);
    frozen.training = bn.training;
    return frozen;
  }

  override forward(x: Tensor): Tensor {
    const { featureShape, numFeatures, axis, eps } = this;
    const flat = (t: Tensor) => (featureShape.length === 1 ? t : t.reshape([-1]));
    const [weight, bias] = [flat(this.weight), flat(this.bias)];
    const running = { mean: flat(this.runningMean), variance: flat(this.runningVar) };
    if (featureShape.length === 1) {
      checkChannels("FrozenBatchNorm", x.shape, axis, numFeatures);
      return batchNormEval({ x, weight, bias }, running, { axis, eps });
    }
    checkFeatures("FrozenBatchNorm", x.shape, featureShape);
    const rows = x.reshape([-1, numFeatures]);
    return batchNormEval({ x: rows, weight, bias }, running, { axis: 1, eps }).reshape(x.shape);
  }
}
