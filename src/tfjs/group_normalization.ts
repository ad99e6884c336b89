import type { Tensor } from "@tensorflow/tfjs-core";
import type { Shape as LayerShape } from "@tensorflow/tfjs-layers";
import { OptionError, ShapeError } from "../base/errors.js";
import { unknownName } from "../base/options.js";
import { normalizeAxis } from "../base/shape.js";
import { checkGroups } from "../norm/checks.js";
import {
  affineDefaults,
  type BetaOptions,
  type EpsilonOption,
  type GammaOptions,
  type LayerOptions,
  readAxis,
} from "./layer_options.js";
import { register } from "./names.js";
import { NormLayer } from "./norm_layer.js";
import { normalize } from "./normalize.js";
import { groupPlan } from "./plan.js";

export interface InstanceNormalizationOptions extends LayerOptions, EpsilonOption, GammaOptions, BetaOptions {
  /** Where the channels lie. Default -1. */
  readonly axis?: number;
}

export interface GroupNormalizationOptions extends InstanceNormalizationOptions {
  /** How many groups the channels fall into; -1: as many as there are channels. Default 32. */
  readonly groups?: number;
}

const defaults = { groups: 32, axis: -1, ...affineDefaults };

/**
 * One mean and one biased variance for each sample and each run of C / groups channels, over those and all positions.
 * Weights gamma and beta, each [C].
 */
export class GroupNormalization extends NormLayer<typeof defaults> {
  static readonly className: string = "Evenkeel>GroupNormalization";
  static readonly kerasName = "GroupNormalization";
  static readonly defaults = defaults;
  readonly axis: number;
  readonly groups: number;

  constructor(options?: GroupNormalizationOptions) {
    super(options, defaults);
    this.axis = readAxis(`${this.owner}: axis`, this.options.axis);
    this.groups = this.options.groups;
    if (this.groups === -1 || (Number.isInteger(this.groups) && this.groups >= 1)) return;
    throw new OptionError({
      rule: `${this.owner}: groups is a whole number of at least 1, or -1 for one group a channel`,
      got: String(this.groups),
    });
  }

  protected override affineAxes(shape: LayerShape): number[] {
    const axis = normalizeAxis(this.axis, shape.length, `${this.owner}: axis`);
    if (axis > 0) return [axis];
    throw new ShapeError({
      rule: `${this.owner} takes statistics for each sample, so its channels lie behind axis 0`,
      got: `axis ${this.axis} for an input of rank ${shape.length}`,
    });
  }

  protected override buildWeights(lengths: number[]): void {
    if (this.groups !== -1) checkGroups(this.owner, this.groups, lengths[0]!);
    super.buildWeights(lengths);
  }

  protected override normalized(x: Tensor): Tensor {
    const groups = this.groups === -1 ? x.shape.at(this.axis)! : this.groups;
    return normalize({ x, ...this.affine, plan: groupPlan(x.shape, this.axis, groups, this.epsilon) }).y;
  }
}

/** One mean and one biased variance for each sample and each channel: group normalization with a group for each. */
export class InstanceNormalization extends GroupNormalization {
  static override readonly className = "Evenkeel>InstanceNormalization";

  constructor(options?: InstanceNormalizationOptions) {
    // A saved one says groups: -1, which makes it a group normalization to Keras.
    const { groups = -1, ...own } = (options ?? {}) as GroupNormalizationOptions;
    if (groups !== -1) throw unknownName("InstanceNormalization has one group for each channel", "groups", []);
    super({ ...own, groups: -1 });
  }
}

register(GroupNormalization);
register(InstanceNormalization);
