import type { Tensor } from "../../autograd/index.js";
import type { Gathering } from "../../autograd/ops/column_parts.js";
import { checkInputs, type NormInputs } from "../../autograd/ops/fused_norm.js";
import { groupGradient } from "../../autograd/ops/group_gradient.js";
import type { GroupMoments } from "../../autograd/ops/group_moments.js";
import { type GroupNormalizeOptions, normalizeByGroup } from "../../autograd/ops/sync_batch_norm.js";
import type { Communicator } from "../../base/communicator.js";
import { checkChoice } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import type { NormName } from "../../norm/family.js";
import { batchView } from "../../norm/views.js";
import type { Module, Parameter } from "../module.js";
import { BatchNormBase } from "./batch_norm.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import type { RunningNormOptions } from "./running_norm.js";

export type AffineGradients = "own" | "sum" | "mean";

const affineChoices = ["own", "sum", "mean"] as const;

export interface SynchronizedOptions extends RunningNormOptions, CommunicatorOption {
  /**
   * What backward leaves in the gradients of weight and bias: those of the rank's own elements ("own", default), to be reduced with
   * all others; or the sum over the ranks of the group, or that divided by their number, which the message of backward carries along.
   */
  readonly affineGradients?: AffineGradients;
}

export const synchronizedDefaults = {
  ...communicatorDefault,
  affineGradients: "own" as AffineGradients,
};

/**
 * Parameters whose gradients have been reduced when backward ends. On each rank of `communicator` each holds the same: the sum over its
 * ranks, or their mean.
 */
export interface ReducedGradients {
  readonly parameters: readonly Parameter[];
  readonly communicator: Communicator;
  readonly how: "sum" | "mean";
}

/**
 * Batch normalization that can take its statistics over the batches of all ranks of a group. In training every rank calls forward
 * and backward, also with an empty batch: one message each. Evaluation needs nobody, and running statistics have the
 * same bits on all ranks.
 *
 * With affineGradients "mean" a reducer over the same ranks may pass these parameters by if it takes means; if it reduces them all the
 * same, by mean or sum, over this group or one made of several such, the result is right too. With "sum" it has to pass them by, must be of this very
 * group, and must itself take sums. `reducedGradients` says what is there; it does not change while the layer lives.
 */
export abstract class SynchronizedBatchNorm extends BatchNormBase {
  readonly communicator: Communicator;
  readonly affineGradients: AffineGradients;
  protected readonly group: RankGroup;

  constructor(layer: NormName, numFeatures: number | Shape, options?: SynchronizedOptions, own: object = {}) {
    super(layer, numFeatures, options, { ...synchronizedDefaults, ...own });
    const given = { ...synchronizedDefaults, ...options };
    this.affineGradients = checkChoice(`${layer}: affineGradients`, given.affineGradients ?? "own", affineChoices);
    const said = `${layer} of ${this.numFeatures} channels, affineGradients "${this.affineGradients}"`;
    this.group = new RankGroup(layer, options?.communicator, said);
    this.communicator = this.group.communicator;
  }

  /** What backward has done to the gradients of weight and bias; null where they are the rank's own. */
  get reducedGradients(): ReducedGradients | null {
    const { communicator, affineGradients: how, weight, bias } = this;
    const parameters = [weight, bias].filter((p) => p !== null);
    return how === "own" || parameters.length === 0 ? null : { parameters, communicator, how };
  }

  /** Whether a forward takes its statistics from several ranks now. */
  protected get shares(): boolean {
    return this.communicator.size > 1 && !(this.running && !this.training);
  }

  /** With other ranks, what this one has is not all: they decide together, and none throws alone. */
  protected override checkFeatureBatch(shape: Shape): void {
    if (this.communicator.size === 1) super.checkFeatureBatch(shape);
  }

  protected override affine(samples: number): { weight: Tensor | null; bias: Tensor | null } {
    const operands = super.affine(samples);
    if (this.communicator.size === 1 || this.shares) return operands;
    const { gathering } = this;
    const { affine } = gathering;
    if (affine === null) return operands;
    // Backward of an evaluation has no message that these could go with.
    const ofAll = (p: Tensor | null) => p && groupGradient({ x: p }, { gather: { ...gathering, affine } });
    return { weight: ofAll(operands.weight), bias: ofAll(operands.bias) };
  }

  protected get gathering(): Gathering {
    const { group, affineGradients, weight, bias } = this;
    if (affineGradients === "own" || !group.several || (!weight && !bias)) return group.gathering;
    return { ...group.gathering, affine: affineGradients === "sum" ? 1 : 1 / group.communicator.size };
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    if (!this.shares) return super.normalize(x, axis);
    return this.normalizeTogether(x, axis, x.shape[0]!);
  }

  /** By the moments of x on all ranks, which also move the running statistics. */
  protected normalizeTogether(x: Tensor, axis: number, samples: number): Tensor {
    return scope(() => {
      const { eps, gathering: gather, conventions } = this;
      const { view } = batchView(x.shape, axis);
      const moments = this.gatherMoments(x, axis, samples);
      const inputs = { x, ...this.affineAmong(x, moments) };
      const out = this.normalizeBy(moments, inputs, { view, eps, variance: conventions.normalizingVariance, gather });
      this.follow({ statistics: moments, repeat: 1, values: moments.values });
      return out;
    });
  }

  /** What a layer does with x once the moments of all ranks are known. */
  protected normalizeBy(moments: GroupMoments, inputs: NormInputs, options: GroupNormalizeOptions): Tensor {
    return normalizeByGroup(inputs, moments, options);
  }

  /** Weight and bias for an x that is normalized by these moments. */
  protected affineAmong(_x: Tensor, { samples }: GroupMoments): { weight: Tensor | null; bias: Tensor | null } {
    return this.affine(samples);
  }

  protected gatherMoments(x: Tensor, axis: number, samples: number): GroupMoments {
    const { layer, weight, bias } = this;
    checkInputs(layer, { x, weight, bias });
    return this.group.gatherMoments(x, batchView(x.shape, axis).view, samples);
  }
}

/** The parameters in a model whose gradients its layers reduce themselves. */
export const reducedGradients = (model: Module): ReducedGradients[] =>
  [...new Set(model.modules())].flatMap((m) => (m instanceof SynchronizedBatchNorm ? (m.reducedGradients ?? []) : []));
