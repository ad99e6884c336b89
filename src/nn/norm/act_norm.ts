import { noGrad, ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { channelAffine } from "../../autograd/ops/channel_affine.js";
import { columnMoments, standardize } from "../../autograd/ops/column_parts.js";
import { checkFloating } from "../../autograd/ops/floating.js";
import type { Communicator } from "../../base/communicator.js";
import { checkChoice, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { scope } from "../../memory/scope.js";
import { checkBatchStatistics, checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { batchView, type ColumnCase } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import { checkAxis } from "./running_norm.js";
import { runningStatsMove } from "./running_stats.js";

/** What weight holds: the logarithm of the scale, which keeps it positive, or the scale itself. */
export type ActNormScale = "exp" | "linear";

export interface ActNormOptions extends PlacementOptions, CommunicatorOption {
  readonly scale?: ActNormScale;
  /** Is added to the standard deviation of the first batch. */
  readonly eps?: number;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/**
 * An invertible affine step for flows, y = s (x + bias) for each channel, s = exp(weight). The first training batch sets
 * weight and bias so that its own outputs have mean 0 and variance 1; from then on both are plain parameters. With a communicator that
 * is the first batch of all its ranks, some of which may have no part of it: every rank calls forward, and they have the same weight
 * and bias then, bit for bit. It is the only batch that sends a message.
 *
 * Shapes: x and y [..., C, ...], axis 0 being the batch.
 * State:  weight, bias [C]; initialized, int32: whether the first batch has been seen. Before it, evaluation is the identity.
 */
export class ActNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  initialized: Tensor | null = null;
  readonly scale: ActNormScale;
  readonly axis: number;
  readonly communicator: Communicator;
  readonly #group: RankGroup;
  eps: number;

  constructor(
    readonly numFeatures: number,
    options?: ActNormOptions,
  ) {
    super();
    const o = readOptions("ActNorm", options, {
      scale: "exp" as ActNormScale,
      eps: family.ActNorm.eps as number,
      axis: 1,
      ...communicatorDefault,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    checkPositiveInteger("ActNorm: numFeatures", numFeatures);
    this.#group = new RankGroup("ActNorm", o.communicator, `ActNorm of ${numFeatures} channels`);
    this.communicator = this.#group.communicator;
    this.scale = checkChoice("ActNorm: scale", o.scale, ["exp", "linear"]);
    this.eps = checkNonNegative("ActNorm: eps", o.eps);
    this.axis = checkAxis("ActNorm", o.axis);
    const identity = this.scale === "exp" ? zeros : ones;
    this.weight = affineParameter(identity([numFeatures], placed));
    this.bias = affineParameter(zeros([numFeatures], placed));
    this.registerBuffer("initialized", tensor(0, { dtype: "int32" }), { least: 0 });
  }

  override forward(x: Tensor): Tensor {
    this.#check(x);
    return scope(() => {
      if (this.training && this.initialized!.item() === 0 && runningStatsMove()) this.#initialize(x);
      // As (x - mean) s in the column kernel: s x + s bias would cancel where the mean is large.
      const mean = this.bias.neg().cast("float64");
      const variance = ones([this.numFeatures], { dtype: "float64" });
      const { view } = batchView(x.shape, this.axis);
      return standardize({ x, mean, variance, weight: this.#factor(), bias: null }, { view, eps: 0 });
    });
  }

  /** y together with log |det dy/dx| of each sample, [N]: the number of positions times sum of log |s|. */
  forwardWithLogDet(x: Tensor): { y: Tensor; logDet: Tensor } {
    return scope(() => {
      const y = this.forward(x);
      const samples = x.shape[0]!;
      const positions = samples === 0 ? 0 : x.size / (samples * this.numFeatures);
      const logs = this.scale === "exp" ? this.weight : this.weight.abs().log();
      return { y, logDet: logs.sum().mul(positions).reshape([1]).expand([samples]) };
    });
  }

  /** x from y: y / s - bias. */
  inverse(y: Tensor): Tensor {
    this.#check(y);
    return scope(() => channelAffine({ x: y, weight: this.#factor().reciprocal(), bias: this.bias.neg() }, this.axis));
  }

  #factor(): Tensor {
    return this.scale === "exp" ? this.weight.exp() : this.weight;
  }

  #check(x: Tensor): void {
    checkChannels("ActNorm", x.shape, this.axis, this.numFeatures);
    checkFloating("ActNorm", x, { weight: this.weight, bias: this.bias });
  }

  #initialize(x: Tensor): void {
    noGrad(() => {
      const { mean, variance } = this.#moments(x, batchView(x.shape, this.axis));
      const s = variance.sqrt().add(this.eps).reciprocal().cast(x.dtype);
      this.weight.assign(this.scale === "exp" ? s.log() : s);
      this.bias.assign(mean.neg().cast(x.dtype));
    });
    this.initialized!.assign([1]);
  }

  #moments(x: Tensor, on: ColumnCase): { mean: Tensor; variance: Tensor } {
    if (this.#group.several) return this.#group.gatherMoments(x, on.view, x.shape[0]!);
    checkBatchStatistics("ActNorm", x.shape, on);
    const both = columnMoments({ x }, { view: on.view });
    return { mean: both.narrow(0, 0, 1), variance: both.narrow(0, 1, 1) };
  }
}
