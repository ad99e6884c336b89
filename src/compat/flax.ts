// Flax (linen): channels last, momentum as the weight of the old statistics, parameters scale and bias.
import type { Tensor } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { OptionError } from "../base/errors.js";
import {
  checkBoolean,
  checkNonNegative,
  checkPositiveInteger,
  checkProbability,
  readOptions,
} from "../base/options.js";
import { normalizeAxes, normalizeAxis, type Shape } from "../base/shape.js";
import { ones_, zeros_ } from "../nn/init.js";
import type { Parameter } from "../nn/module.js";
import {
  GroupNorm as NNGroupNorm,
  LayerNorm as NNLayerNorm,
  MaskedBatchNorm as NNMaskedBatchNorm,
  RMSNorm as NNRMSNorm,
} from "../nn/norm/index.js";
import type { Mask } from "../nn/norm/mask.js";
import { checkAxis } from "../nn/norm/running_norm.js";
import { checkAxes } from "../nn/norm/unit_norm.js";
import { leaveOut, type WithAffine } from "./adapter.js";
import { type Initializer, type Named, readInitializer } from "./initializer.js";
import { Lazy, type LazyOptions, lazyDefaults, lengthAt, withLast } from "./lazy.js";

const initializers: Named = { zeros: zeros_, ones: ones_ };

export interface AffineOptions extends LazyOptions {
  readonly epsilon?: number;
  readonly useBias?: boolean;
  readonly useScale?: boolean;
  readonly biasInit?: Initializer;
  readonly scaleInit?: Initializer;
}

const affineDefaults = {
  epsilon: 1e-6,
  useBias: true,
  useScale: true,
  biasInit: "zeros" as Initializer,
  scaleInit: "ones" as Initializer,
  ...lazyDefaults,
};

/** What Flax's layers share: scale and bias, and the two collections of variables. */
abstract class Affine<N extends WithAffine> extends Lazy<N> {
  /** null without useScale. */
  declare scale: Parameter | null;
  /** null without useBias. */
  declare bias: Parameter | null;
  readonly epsilon: number;
  readonly useBias: boolean;
  readonly useScale: boolean;
  readonly #scale: (t: Tensor) => void;
  readonly #bias: (t: Tensor) => void;

  constructor(owner: string, o: Required<AffineOptions>) {
    super(o);
    this.epsilon = checkNonNegative(`${owner}: epsilon`, o.epsilon);
    this.useBias = checkBoolean(`${owner}: useBias`, o.useBias);
    this.useScale = checkBoolean(`${owner}: useScale`, o.useScale);
    this.#scale = readInitializer(`${owner}: scaleInit`, o.scaleInit, initializers);
    this.#bias = readInitializer(`${owner}: biasInit`, o.biasInit, initializers);
  }

  protected start(norm: N, names: Readonly<Record<string, keyof N & string>>): void {
    leaveOut(norm, { weight: !this.useScale, bias: !this.useBias });
    this.wrap(norm, names, this.dtype);
    if (this.scale) this.#scale(this.scale);
    if (this.bias) this.#bias(this.bias);
  }

  override forward(x: Tensor): Tensor {
    return this.normFor(x).forward(x);
  }

  /** Flax's collections; the tensors are the layer's own. */
  get variables(): { params: Record<string, Tensor>; batchStats: Record<string, Tensor> } {
    return {
      params: Object.fromEntries(this.namedParameters()),
      batchStats: Object.fromEntries(this.namedBuffers()),
    };
  }
}

export interface BatchNormOptions extends AffineOptions {
  /** True: evaluation. Here, or in the call; without either the layer's mode, train() or eval(), tells. */
  readonly useRunningAverage?: boolean | null;
  /** Where the features lie. Default -1. */
  readonly axis?: number;
  /** Weight of the old statistics. Default 0.99. */
  readonly momentum?: number;
}

export interface BatchNormCall {
  readonly useRunningAverage?: boolean;
  /** 1 or true where a position counts in the statistics of training: x's shape without the feature axis. */
  readonly mask?: Mask | null;
}

/** Statistics over all axes but one; the biased variance runs. */
export class BatchNorm extends Affine<NNMaskedBatchNorm> {
  readonly useRunningAverage: boolean | null;
  readonly axis: number;
  readonly momentum: number;
  declare mean: Tensor;
  declare var: Tensor;

  constructor(options?: BatchNormOptions) {
    const o = readOptions("BatchNorm", options, {
      ...affineDefaults,
      epsilon: 1e-5,
      useRunningAverage: null as boolean | null,
      axis: -1,
      momentum: 0.99,
    });
    super("BatchNorm", o);
    this.useRunningAverage = o.useRunningAverage;
    if (o.useRunningAverage !== null) checkBoolean("BatchNorm: useRunningAverage", o.useRunningAverage);
    this.axis = checkAxis("BatchNorm", o.axis);
    this.momentum = checkProbability("BatchNorm: momentum", o.momentum);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const { axis, epsilon: eps } = this;
    const channels = lengthAt("BatchNorm", shape, normalizeAxis(axis, shape.length, "BatchNorm: axis"));
    const conventions = { runningVariance: "biased", padded: "normalize", momentum: 1 - this.momentum } as const;
    const norm = new NNMaskedBatchNorm(channels, { axis, eps, dtype, ...conventions });
    this.start(norm, { scale: "weight", bias: "bias", mean: "runningMean", var: "runningVar" });
  }

  override forward(x: Tensor, options?: BatchNormCall): Tensor {
    const { useRunningAverage: given, mask } = readOptions("BatchNorm call", options, {
      useRunningAverage: null as boolean | null,
      mask: null as Mask | null,
    });
    if (given !== null) checkBoolean("BatchNorm call: useRunningAverage", given);
    if (given !== null && this.useRunningAverage !== null) {
      throw new OptionError({
        rule: "useRunningAverage is said once: to the constructor, or in the call",
        got: "both",
        fix: "Leave it out of one of them",
      });
    }
    return this.normFor(x, !(given ?? this.useRunningAverage ?? !this.training)).forward(x, mask);
  }
}

export interface LayerNormOptions extends AffineOptions {
  /** The axis or axes that a statistic spans, and that scale and bias have. Default -1. */
  readonly reductionAxes?: number | readonly number[];
}

/** Statistics over one axis or several. */
export class LayerNorm extends Affine<NNLayerNorm> {
  readonly reductionAxes: number | readonly number[];

  constructor(options?: LayerNormOptions) {
    const defaults = { ...affineDefaults, reductionAxes: -1 as number | readonly number[] };
    const o = readOptions("LayerNorm", options, defaults);
    super("LayerNorm", o);
    this.reductionAxes = checkAxes("LayerNorm: reductionAxes", o.reductionAxes);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const lengths = normalizeAxes(this.reductionAxes, shape.length).map((a) => lengthAt("LayerNorm", shape, a));
    this.start(new NNLayerNorm(lengths, { eps: this.epsilon, dtype }), { scale: "weight", bias: "bias" });
  }

  override forward(x: Tensor): Tensor {
    const norm = this.normFor(x);
    return withLast(x, this.reductionAxes, (t) => norm.forward(t));
  }
}

export interface RMSNormOptions extends LazyOptions {
  readonly epsilon?: number;
  readonly useScale?: boolean;
  readonly scaleInit?: Initializer;
  /** The axis or axes that a statistic spans, and that scale has. Default -1. */
  readonly reductionAxes?: number | readonly number[];
}

/** Divides by the root mean square over one axis or several. */
export class RMSNorm extends Affine<NNRMSNorm> {
  readonly reductionAxes: number | readonly number[];

  constructor(options?: RMSNormOptions) {
    const { useBias: _, biasInit: __, ...defaults } = affineDefaults;
    const o = readOptions("RMSNorm", options, { ...defaults, reductionAxes: -1 as number | readonly number[] });
    super("RMSNorm", { ...affineDefaults, ...o, useBias: false });
    this.reductionAxes = checkAxes("RMSNorm: reductionAxes", o.reductionAxes);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const lengths = normalizeAxes(this.reductionAxes, shape.length).map((a) => lengthAt("RMSNorm", shape, a));
    this.start(new NNRMSNorm(lengths, { eps: this.epsilon, dtype }), { scale: "weight" });
  }

  override forward(x: Tensor): Tensor {
    const norm = this.normFor(x);
    return withLast(x, this.reductionAxes, (t) => norm.forward(t));
  }
}

export interface GroupNormOptions extends AffineOptions {
  /** How many groups the channels fall into: 32, unless groupSize is given. */
  readonly numGroups?: number | null;
  /** Instead: how many channels a group has. */
  readonly groupSize?: number | null;
}

/** Statistics for each sample over a group of channels and all positions; channels last. */
export class GroupNorm extends Affine<NNGroupNorm> {
  readonly numGroups: number | null;
  readonly groupSize: number | null;

  constructor(options?: GroupNormOptions) {
    const o = readOptions("GroupNorm", options, {
      ...affineDefaults,
      numGroups: 32 as number | null,
      groupSize: null as number | null,
    });
    super("GroupNorm", o);
    if ((o.numGroups === null) === (o.groupSize === null)) {
      throw new OptionError({
        rule: "GroupNorm takes numGroups (32 unless null) or groupSize",
        got: o.numGroups === null ? "neither" : "both",
        ...(o.groupSize === null ? {} : { fix: "Pass numGroups: null beside groupSize" }),
      });
    }
    this.numGroups = o.numGroups === null ? null : checkPositiveInteger("GroupNorm: numGroups", o.numGroups);
    this.groupSize = o.groupSize === null ? null : checkPositiveInteger("GroupNorm: groupSize", o.groupSize);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const channels = lengthAt("GroupNorm", shape, shape.length - 1);
    const { epsilon: eps, numGroups, groupSize } = this;
    if (groupSize !== null) checkGroupSize(groupSize, channels);
    const norm = new NNGroupNorm(numGroups ?? channels / groupSize!, channels, { axis: -1, eps, dtype });
    this.start(norm, { scale: "weight", bias: "bias" });
  }
}

/** Statistics for each sample and channel over all positions; channels last. */
export class InstanceNorm extends Affine<NNGroupNorm> {
  constructor(options?: AffineOptions) {
    super("InstanceNorm", readOptions("InstanceNorm", options, affineDefaults));
  }

  protected override make(shape: Shape, dtype: DType): void {
    const channels = lengthAt("InstanceNorm", shape, shape.length - 1);
    const norm = new NNGroupNorm(channels, channels, { axis: -1, eps: this.epsilon, dtype });
    this.start(norm, { scale: "weight", bias: "bias" });
  }
}

function checkGroupSize(size: number, channels: number): void {
  if (channels % size === 0) return;
  throw new OptionError({
    rule: "GroupNorm: groupSize must divide the number of channels",
    got: `${size} for ${channels} channels`,
  });
}
