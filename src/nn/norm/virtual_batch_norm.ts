import { noGrad, ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { batchNorm } from "../../autograd/ops/batch_norm.js";
import { columnMoments } from "../../autograd/ops/column_parts.js";
import { checkInputs } from "../../autograd/ops/fused_norm.js";
import { normalizeByGroup } from "../../autograd/ops/sync_batch_norm.js";
import { virtualBatchNorm } from "../../autograd/ops/virtual_batch_norm.js";
import type { Communicator } from "../../base/communicator.js";
import { NonFiniteError, StateError } from "../../base/errors.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkBatchStatistics, checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { batchView, type ColumnCase, statisticSize } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import { checkAxis } from "./running_norm.js";
import { areFinite, disposeStatistics, runningStatsMove } from "./running_stats.js";

export interface VirtualBatchNormOptions extends PlacementOptions, CommunicatorOption {
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
 * reference takes its input as reference, and normalizes it as a batch; setReference() takes one by itself. With a communicator the
 * reference is what all its ranks give for it, none at all on some of them: every rank calls the same of the two, and goes back through such
 * a forward, with one message each. All have the same reference then, bit for bit, and no later batch sends anything.
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
  readonly communicator: Communicator;
  readonly #group: RankGroup;

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
      ...communicatorDefault,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.#group = new RankGroup("VirtualBatchNorm", o.communicator, `VirtualBatchNorm of ${numFeatures} channels`);
    this.communicator = this.#group.communicator;
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

  /**
   * Takes the statistics of a reference batch: what this layer gets as input when the model sees that batch, or with a communicator
   * this rank's part of it.
   */
  setReference(x: Tensor): void {
    checkChannels("VirtualBatchNorm", x.shape, this.axis, this.numFeatures);
    scope(() =>
      noGrad(() => {
        const { mean, variance, values } = this.#moments(x, batchView(x.shape, this.axis));
        if (!soFarFinite(mean, variance)) {
          throw new NonFiniteError({
            rule: "A reference batch has finite statistics",
            got: `NaN or Inf in those of an input of shape ${formatShape(x.shape)}`,
          });
        }
        this.keep(mean, variance, values);
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
    if (this.#group.several) return this.#normalizeTogether(x);
    const { out, extra } = batchNorm({ x, weight, bias }, { axis, eps });
    this.follow(extra.mean!, extra.variance, x.size / numFeatures);
    disposeStatistics(extra);
    return out;
  }

  /** As a batch that is this rank's part of that of all ranks. */
  #normalizeTogether(x: Tensor): Tensor {
    const { weight, bias, axis, eps } = this;
    checkInputs("virtual_batch_norm", { x, weight, bias });
    return scope(() => {
      const { view } = batchView(x.shape, axis);
      const group = this.#group;
      const moments = group.gatherMoments(x, view, x.shape[0]!);
      this.follow(moments.mean, moments.variance, moments.values);
      return normalizeByGroup({ x, weight, bias }, moments, { view, eps, gather: group.gathering });
    });
  }

  /** Of a reference batch: with several ranks, of what all of them give. */
  #moments(x: Tensor, on: ColumnCase): { mean: Tensor; variance: Tensor; values: number } {
    if (this.#group.several) return this.#group.gatherMoments(x, on.view, x.shape[0]!);
    checkBatchStatistics("VirtualBatchNorm", x.shape, on);
    const both = columnMoments({ x }, { view: on.view });
    const part = (i: number) => both.narrow(0, i, 1).reshape([this.numFeatures]);
    return { mean: part(0), variance: part(1), values: statisticSize(on) };
  }

  private follow(mean: Tensor, variance: Tensor, count: number): void {
    // A batch with NaN or Inf would spoil every later one.
    if (runningStatsMove() && soFarFinite(mean, variance)) this.keep(mean, variance, count);
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
