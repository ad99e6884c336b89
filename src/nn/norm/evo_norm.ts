import { ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { channelAffine } from "../../autograd/ops/channel_affine.js";
import { evoNormB0, evoNormS0 } from "../../autograd/ops/evo_norm.js";
import { checkFloating } from "../../autograd/ops/floating.js";
import type { SampleMoments } from "../../autograd/ops/instance_moments.js";
import type { Communicator } from "../../base/communicator.js";
import { ShapeError } from "../../base/errors.js";
import { checkBoolean, checkChoice, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { everyTime } from "../../kernels/tape.js";
import { onDevice } from "../../memory/device.js";
import { scope } from "../../memory/scope.js";
import type { Storage } from "../../memory/storage.js";
import { checkBatchStatistics, checkChannels, checkGroups } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { besselFactor } from "../../norm/moments.js";
import { checkMomentum, type Momentum, momentumWeight } from "../../norm/momentum.js";
import { batchView } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import { checkAxis } from "./running_norm.js";
import { areFinite, runningStatsMove } from "./running_stats.js";

interface EvoNormOptions extends PlacementOptions {
  readonly eps?: number;
  /** False leaves weight x + bias alone, for a normalization that no activation follows, as in the paper. */
  readonly nonlinear?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

type Common = Required<EvoNormOptions>;

/** What both have: weight, bias, and v where there is a nonlinearity. */
abstract class EvoNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly v: Parameter | null;
  readonly axis: number;
  eps: number;

  constructor(
    protected readonly layer: "EvoNormB0" | "EvoNormS0",
    readonly numFeatures: number,
    o: Common,
  ) {
    super();
    checkPositiveInteger(`${layer}: numFeatures`, numFeatures);
    const placed = readPlacement(o);
    this.eps = checkNonNegative(`${layer}: eps`, o.eps);
    this.axis = checkAxis(layer, o.axis);
    this.weight = affineParameter(ones([numFeatures], placed));
    this.bias = affineParameter(zeros([numFeatures], placed));
    this.v = checkBoolean(`${layer}: nonlinear`, o.nonlinear) ? affineParameter(ones([numFeatures], placed)) : null;
  }

  override forward(x: Tensor): Tensor {
    const { layer, axis, numFeatures, weight, bias, v } = this;
    if (x.rank < 3) {
      throw new ShapeError({
        rule: `${layer} takes an input [N, C, ...] of rank 3 or more`,
        got: formatShape(x.shape),
      });
    }
    checkChannels(layer, x.shape, axis, numFeatures);
    checkFloating(layer, x, { weight, bias });
    if (!v) return channelAffine({ x, weight, bias }, axis);
    return scope(() => this.normalize({ x, weight, bias, v }));
  }

  protected abstract normalize(inputs: { x: Tensor; weight: Tensor; bias: Tensor; v: Tensor }): Tensor;
}

export interface EvoNormB0Options extends EvoNormOptions, CommunicatorOption {
  /** Weight of the new batch in running_var; null averages all batches alike; or a schedule n -> weight. */
  readonly momentum?: Momentum;
  /** "guard" leaves a batch whose variance is NaN or Inf out of running_var, and counts it in skippedUpdates. */
  readonly runningStats?: "update" | "guard";
}

/**
 * y = weight x / max(sqrt(batch variance + eps), v x + sqrt(instance variance + eps)) + bias: normalization and activation
 * in one. In evaluation the batch variance is the running one. With a communicator the batch is that of all its ranks, of which some may
 * have no part: in training every rank calls forward and backward, with one message each, and running_var has the same bits on all.
 *
 * Shapes: x and y [N, ..., C, ...], rank 3 or more.
 * State:  weight, bias, v [C]; running_var [C] (unbiased), num_batches_tracked. Without nonlinear: weight and bias.
 */
export class EvoNormB0 extends EvoNorm {
  runningVar: Tensor | null = null;
  numBatchesTracked: Tensor | null = null;
  momentum: Momentum;
  readonly communicator: Communicator;
  readonly #group: RankGroup;
  readonly runningStats: "update" | "guard";
  /** Batches that `runningStats: "guard"` left out. */
  skippedUpdates = 0;

  constructor(numFeatures: number, options?: EvoNormB0Options) {
    const { momentum, runningStats, communicator, ...o } = readOptions("EvoNormB0", options, {
      eps: family.EvoNormB0.eps as number,
      nonlinear: true,
      momentum: family.EvoNormB0.momentum as Momentum,
      axis: 1,
      runningStats: "update" as "update" | "guard",
      ...communicatorDefault,
      ...placementDefaults,
    });
    super("EvoNormB0", numFeatures, o);
    this.#group = new RankGroup("EvoNormB0", communicator, `EvoNormB0 of ${numFeatures} channels`);
    this.communicator = this.#group.communicator;
    this.momentum = checkMomentum("EvoNormB0", momentum);
    this.runningStats = checkChoice("EvoNormB0: runningStats", runningStats, ["update", "guard"]);
    this.registerBuffer("runningVar", this.v ? ones([numFeatures], readPlacement(o)) : null, { least: 0 });
    this.registerBuffer("numBatchesTracked", this.v ? tensor(0, { dtype: "int32" }) : null, { least: 0 });
  }

  protected override normalize(inputs: { x: Tensor; weight: Tensor; bias: Tensor; v: Tensor }): Tensor {
    const { axis, eps } = this;
    if (!this.training) return evoNormB0(inputs, { axis, eps, given: this.runningVar! }).out;
    const { x } = inputs;
    let values = x.size / this.numFeatures;
    const widen = (own: SampleMoments) => {
      const all = this.#group.shareMoments(x, own, values, x.shape[0]!);
      values = all.values;
      return all;
    };
    const { several } = this.#group;
    if (!several) checkBatchStatistics("EvoNormB0", x.shape, batchView(x.shape, axis));
    const { out, variance } = evoNormB0(inputs, { axis, eps, widen: several ? widen : null });
    this.#follow(variance, values);
    return out;
  }

  #follow(variance: Tensor, values: number): void {
    if (!runningStatsMove()) return;
    const { storage } = variance;
    everyTime(() => {
      if (this.runningStats === "guard" && !areFinite(storage)) this.skippedUpdates++;
      else this.#move(storage, values);
    });
  }

  #move(variance: Storage, values: number): void {
    const [running, counter] = [this.runningVar!, this.numBatchesTracked!];
    const n = counter.item() + 1;
    const weight = momentumWeight(this.momentum, n);
    const factor = besselFactor(values);
    onDevice(running.device, () => kernels.updateRunning(running.storage, variance, 1, weight, factor));
    running.storage.version++;
    counter.assign([n]);
  }
}

export interface EvoNormS0Options extends EvoNormOptions {
  /** Groups of channels that share a variance. Default 32. */
  readonly groups?: number;
}

/**
 * y = weight x sigmoid(v x) / sqrt(group variance + eps) + bias: normalization and activation in one, sample by sample.
 *
 * Shapes: x and y [N, ..., C, ...], rank 3 or more.
 * State:  weight, bias, v [C]. Without nonlinear: weight and bias.
 */
export class EvoNormS0 extends EvoNorm {
  readonly groups: number;

  constructor(numFeatures: number, options?: EvoNormS0Options) {
    const { groups, ...o } = readOptions("EvoNormS0", options, {
      eps: family.EvoNormS0.eps as number,
      nonlinear: true,
      groups: 32,
      axis: 1,
      ...placementDefaults,
    });
    super("EvoNormS0", numFeatures, o);
    this.groups = checkPositiveInteger("EvoNormS0: groups", groups);
    checkGroups("EvoNormS0", groups, numFeatures);
  }

  protected override normalize(inputs: { x: Tensor; weight: Tensor; bias: Tensor; v: Tensor }): Tensor {
    const { axis, eps, groups } = this;
    return evoNormS0(inputs, { axis, eps, groups });
  }
}
