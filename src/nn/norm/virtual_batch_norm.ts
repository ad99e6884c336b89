import { noGrad, ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { batchNorm } from "../../autograd/ops/batch_norm.js";
import { columnMoments } from "../../autograd/ops/column_parts.js";
import { virtualBatchNorm } from "../../autograd/ops/virtual_batch_norm.js";
import { NonFiniteError, StateError } from "../../base/errors.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkBatchStatistics, checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { batchView, statisticSize } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { checkAxis } from "./running_norm.js";
import { areFinite, disposeStatistics, runningStatsMove } from "./running_stats.js";

export interface VirtualBatchNormOptions extends PlacementOptions {
  readonly eps?: number;
  readonly affine?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/** Whether all numbers are finite, where they can be looked at: on other devices than the CPU that would mean waiting for them. */
const soFarFinite = (...statistics: readonly Tensor[]): boolean =>
  statistics.every(({ storage }) => storage.block !== null || areFinite(storage));

/**
 * Normalizes each example by a reference batch, chosen once, and the example itself. The first training forward without a
 * reference takes its input as reference, and normalizes it as a batch; setReference() takes one by itself.
 */
export class VirtualBatchNorm extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  /** Moments of the reference batch, float64 whatever the layer's type: no input is as accurate as its mean. */
  declare referenceMean: Tensor;
  declare referenceVar: Tensor;
  /** int32, without axes: values of each channel in the reference batch; 0 before there is one. */
  declare referenceCount: Tensor;
  eps: number;
  readonly axis: number;

  constructor(
    readonly numFeatures: number,
    options?: VirtualBatchNormOptions,
  ) {
    super();
    checkPositiveInteger("VirtualBatchNorm: numFeatures", numFeatures);
    const o = readOptions("VirtualBatchNorm", options, {
      eps: family.VirtualBatchNorm.eps as number,
      affine: family.VirtualBatchNorm.affine as boolean,
      axis: 1,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative("VirtualBatchNorm: eps", o.eps);
    this.axis = checkAxis("VirtualBatchNorm", o.axis);
    const affine = checkBoolean("VirtualBatchNorm: affine", o.affine);
    this.weight = affine ? affineParameter(ones([numFeatures], placed)) : null;
    this.bias = affine ? affineParameter(zeros([numFeatures], placed)) : null;
    this.registerBuffer("referenceMean", zeros([numFeatures], { ...placed, dtype: "float64" }));
    this.registerBuffer("referenceVar", ones([numFeatures], { ...placed, dtype: "float64" }), { least: 0 });
    this.registerBuffer("referenceCount", tensor(0, { dtype: "int32" }), { least: 0 });
  }

  get hasReference(): boolean {
    return this.referenceCount.item() > 0;
  }

  /** Takes the statistics of a reference batch: what this layer gets as input when the model sees that batch. */
  setReference(x: Tensor): void {
    checkChannels("VirtualBatchNorm", x.shape, this.axis, this.numFeatures);
    const on = batchView(x.shape, this.axis);
    checkBatchStatistics("VirtualBatchNorm", x.shape, on);
    scope(() =>
      noGrad(() => {
        const both = columnMoments({ x }, { view: on.view });
        const part = (i: number) => both.narrow(0, i, 1).reshape([this.numFeatures]);
        const [mean, variance] = [part(0), part(1)];
        if (!soFarFinite(mean, variance)) {
          throw new NonFiniteError({
            rule: "A reference batch has finite statistics",
            got: `NaN or Inf in those of an input of shape ${formatShape(x.shape)}`,
          });
        }
        this.keep(mean, variance, statisticSize(on));
      }),
    );
  }

  /** Forgets the reference; the next training forward takes its input as one. */
  clearReference(): void {
    this.referenceCount.assign([0]);
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, axis, eps, numFeatures } = this;
    checkChannels("VirtualBatchNorm", x.shape, axis, numFeatures);
    if (this.hasReference) return virtualBatchNorm({ x, weight, bias }, { axis, eps, reference: this.reference() });
    if (!this.training) {
      throw new StateError({
        rule: "VirtualBatchNorm evaluates with its reference batch",
        got: "none",
        fix: "Call setReference(x), train for one step, or load a state that has one",
      });
    }
    const { out, extra } = batchNorm({ x, weight, bias }, { axis, eps });
    // A batch with NaN or Inf would spoil every later one.
    if (runningStatsMove() && soFarFinite(extra.mean!, extra.variance))
      this.keep(extra.mean!, extra.variance, x.size / numFeatures);
    disposeStatistics(extra);
    return out;
  }

  private keep(mean: Tensor, variance: Tensor, count: number): void {
    this.referenceMean.assign(mean);
    this.referenceVar.assign(variance);
    this.referenceCount.assign([count]);
  }

  private reference() {
    return { mean: this.referenceMean, variance: this.referenceVar, count: this.referenceCount.item() };
  }
}
