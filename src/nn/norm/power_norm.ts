import { noGrad, ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import { checkFloating } from "../../autograd/ops/floating.js";
import { type PowerOptions, powerNorm, quadraticMean, squareOf } from "../../autograd/ops/power_norm.js";
import { rmsNorm } from "../../autograd/ops/rms_norm.js";
import type { Communicator } from "../../base/communicator.js";
import {
  checkBoolean,
  checkChoice,
  checkNonNegative,
  checkNumber,
  checkPositiveInteger,
  checkProbability,
  readOptions,
} from "../../base/options.js";
import { scope } from "../../memory/scope.js";
import { checkBatchStatistics, checkChannels, checkGroups } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { batchView } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import { checkAxis } from "./running_norm.js";
import { areFinite, runningStatsMove } from "./running_stats.js";

export interface PowerNormOptions extends PlacementOptions, CommunicatorOption {
  readonly eps?: number;
  /** Weight of the OLD value in running_phi. Default 0.9. */
  readonly alphaFwd?: number;
  /** Weight of the OLD value in what backward follows. Default 0.9. */
  readonly alphaBkw?: number;
  /** Training batches at the start that are divided by their own quadratic mean, with its exact gradient. Default 10000. */
  readonly warmupIters?: number;
  /** With a number: x is first divided, at each position, by the root mean square of each of so many groups of channels. */
  readonly groups?: number | null;
  readonly affine?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
  /** "guard" leaves NaN and Inf out of running_phi and ema_gz, and counts such batches in skippedUpdates. */
  readonly runningStats?: "update" | "guard";
}

/**
 * Division by a running quadratic mean: y = weight x / sqrt(running_phi + eps) + bias. In training running_phi is the one
 * before this batch, and backward subtracts a running component instead of differentiating it (ema_gz). With a communicator the batch
 * is that of all its ranks, of which some may have no part: in training every rank calls forward and backward, with one message each, and
 * all have the same state, bit for bit.
 *
 * Shapes: x and y [..., C, ...].
 * State:  weight, bias; running_phi, ema_gz [C]; iters, int32: training batches seen.
 */
export class PowerNorm extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  runningPhi: Tensor | null = null;
  emaGz: Tensor | null = null;
  iters: Tensor | null = null;
  eps: number;
  alphaFwd: number;
  alphaBkw: number;
  readonly warmupIters: number;
  readonly groups: number | null;
  readonly axis: number;
  readonly communicator: Communicator;
  readonly #group: RankGroup;
  readonly runningStats: "update" | "guard";
  /** Batches that `runningStats: "guard"` left out. */
  skippedUpdates = 0;

  constructor(
    readonly numFeatures: number,
    options?: PowerNormOptions,
  ) {
    super();
    const { eps, momentum, affine } = family.PowerNorm;
    const o = readOptions("PowerNorm", options, {
      eps: eps as number,
      alphaFwd: 1 - momentum,
      alphaBkw: 1 - momentum,
      warmupIters: 10000,
      groups: null as number | null,
      affine: affine as boolean,
      axis: 1,
      runningStats: "update" as "update" | "guard",
      ...communicatorDefault,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    checkPositiveInteger("PowerNorm: numFeatures", numFeatures);
    this.#group = new RankGroup("PowerNorm", o.communicator, `PowerNorm of ${numFeatures} channels`);
    this.communicator = this.#group.communicator;
    this.eps = checkNonNegative("PowerNorm: eps", o.eps);
    this.alphaFwd = checkProbability("PowerNorm: alphaFwd", o.alphaFwd);
    this.alphaBkw = checkProbability("PowerNorm: alphaBkw", o.alphaBkw);
    this.warmupIters = checkNumber(
      "PowerNorm: warmupIters",
      o.warmupIters,
      "a whole number of at least 0",
      (v) => Number.isInteger(v) && v >= 0,
    );
    this.groups = o.groups === null ? null : checkPositiveInteger("PowerNorm: groups", o.groups);
    if (this.groups) checkGroups("PowerNorm", this.groups, numFeatures);
    this.axis = checkAxis("PowerNorm", o.axis);
    this.runningStats = checkChoice("PowerNorm: runningStats", o.runningStats, ["update", "guard"]);
    const withAffine = checkBoolean("PowerNorm: affine", o.affine);
    this.weight = withAffine ? affineParameter(ones([numFeatures], placed)) : null;
    this.bias = withAffine ? affineParameter(zeros([numFeatures], placed)) : null;
    this.registerBuffer("runningPhi", ones([numFeatures], placed), { least: 0 });
    this.registerBuffer("emaGz", zeros([numFeatures], placed));
    this.registerBuffer("iters", tensor(0, { dtype: "int32" }), { least: 0 });
  }

  override forward(x: Tensor): Tensor {
    const { axis, eps, weight, bias, numFeatures } = this;
    checkChannels("PowerNorm", x.shape, axis, numFeatures);
    checkFloating("PowerNorm", x, { weight, bias });
    return scope(() => {
      const inputs = { x: this.#scaleGroups(x), weight, bias };
      // Copies: backward needs what the state was before this batch.
      const copy = (t: Tensor, factor = 1) => t.detach().cast("float64").mul(factor);
      const phi = copy(this.runningPhi!);
      if (!this.training) {
        return batchNormEval(
          inputs,
          { mean: zeros([numFeatures], { dtype: "float64" }), variance: phi },
          { axis, eps },
        );
      }
      const { view } = batchView(x.shape, axis);
      const { own, wider } = noGrad(() => this.#quadraticMean(inputs.x));
      const warm = this.iters!.item() < this.warmupIters;
      const square = warm ? own : phi;
      const nu = warm ? null : copy(this.emaGz!, 1 - this.alphaBkw);
      const observe: PowerOptions["observe"] = (along, of, gamma) => this.#followGradient(along, of, gamma);
      const out = powerNorm({ ...inputs, square, own, nu }, { view, eps, wider, observe });
      this.#followInput(own);
      return out;
    });
  }

  /** psi_B^2, and how backward adds up over as much as that was taken from. */
  #quadraticMean(x: Tensor): { own: Tensor; wider: PowerOptions["wider"] } {
    const on = batchView(x.shape, this.axis);
    const group = this.#group;
    if (group.several) {
      const moments = group.gatherMoments(x, on.view, x.shape[0]!);
      return { own: squareOf(moments), wider: { values: moments.values, add: group.gathering.add } };
    }
    checkBatchStatistics("PowerNorm", x.shape, on);
    return { own: quadraticMean(x, on.view), wider: null };
  }

  /** Each group of channels divided by its root mean square at each position. */
  #scaleGroups(x: Tensor): Tensor {
    if (!this.groups) return x;
    const last = x.transpose(this.axis, -1);
    const size = this.numFeatures / this.groups;
    const grouped = last.reshape([...last.shape.slice(0, -1), this.groups, size]);
    const scaled = rmsNorm({ x: grouped, weight: null }, { normalizedShape: [size], eps: this.eps });
    return scaled.reshape(last.shape).transpose(this.axis, -1);
  }

  /** Algorithm 1: phi = alpha phi + (1 - alpha) psi_B^2; in the warm-up the average of all batches so far. */
  #followInput(own: Tensor): void {
    if (!runningStatsMove()) return;
    if (this.runningStats === "guard" && !areFinite(own.storage)) {
      this.skippedUpdates++;
      return;
    }
    const k = this.iters!.item() + 1;
    const weight = k <= this.warmupIters ? 1 / k : 1 - this.alphaFwd;
    const phi = this.runningPhi!;
    move(phi, (before) => before.mul(1 - weight).add(own.mul(weight)));
    this.iters!.assign([k]);
  }

  /**
   * Algorithm 2: nu = nu (1 - (1 - alpha) Gamma) + (1 - alpha) Lambda, Lambda = <g xhat>, Gamma = <xhat^2>. The state is
   * the authors' ema_gz = nu / (1 - alpha), which adds Lambda - (1 - alpha) ema_gz Gamma.
   */
  #followGradient(along: Tensor, own: Tensor, gamma: Tensor): void {
    if (this.runningStats === "guard" && !areFinite(along.storage, own.storage)) return;
    move(this.emaGz!, (before) => before.add(along).sub(before.mul(gamma).mul(1 - this.alphaBkw)));
  }
}

/** Writes to a state what comes of it, computed in float64. */
function move(state: Tensor, to: (before: Tensor) => Tensor): void {
  scope(() => noGrad(() => state.assign(to(state.detach().cast("float64")).cast(state.dtype))));
}
