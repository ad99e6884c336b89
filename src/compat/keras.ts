// Keras 3: layers built by their first input, channels last, momentum as the weight of the old statistics.
import type { Tensor } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { checkBoolean, checkNonNegative, checkNumber, checkProbability, readOptions } from "../base/options.js";
import { normalizeAxes, normalizeAxis, type Shape } from "../base/shape.js";
import type { Parameter } from "../nn/module.js";
import {
  GroupNorm as NNGroupNorm,
  LayerNorm as NNLayerNorm,
  MaskedBatchNorm as NNMaskedBatchNorm,
  RMSNorm as NNRMSNorm,
  UnitNorm as NNUnitNorm,
} from "../nn/norm/index.js";
import type { Mask } from "../nn/norm/mask.js";
import { checkAxis } from "../nn/norm/running_norm.js";
import { checkAxes } from "../nn/norm/unit_norm.js";
import { type Initializer, readInitializer } from "./initializer.js";
import {
  type AffineOptions,
  affineDefaults,
  type CallOptions,
  initializers,
  KerasAffine,
  KerasLayer,
} from "./keras_affine.js";
import { type LazyOptions, lazyDefaults, lengthAt, readTraining, withLast } from "./lazy.js";

export interface BatchNormalizationOptions extends AffineOptions {
  /** Where the channels lie. Default -1. */
  readonly axis?: number;
  /** Weight of the old statistics. Default 0.99. */
  readonly momentum?: number;
  readonly movingMeanInitializer?: Initializer;
  readonly movingVarianceInitializer?: Initializer;
  /** False: nothing is learned, and training is evaluation, as in Keras. */
  readonly trainable?: boolean;
}

export interface MaskedCallOptions extends CallOptions {
  /** 1 or true where a position counts in the statistics of training: x's shape without the channel axis. */
  readonly mask?: Mask | null;
}

/** Statistics over all axes but one; the biased variance runs. Evaluation unless `training` or train() says otherwise. */
export class BatchNormalization extends KerasAffine<NNMaskedBatchNorm> {
  readonly axis: number;
  readonly momentum: number;
  declare movingMean: Tensor;
  declare movingVariance: Tensor;
  readonly #mean: (t: Tensor) => void;
  readonly #variance: (t: Tensor) => void;
  #trainable: boolean;

  constructor(options?: BatchNormalizationOptions) {
    const owner = "BatchNormalization";
    const o = readOptions(owner, options, {
      axis: -1,
      momentum: 0.99,
      movingMeanInitializer: "zeros" as Initializer,
      movingVarianceInitializer: "ones" as Initializer,
      trainable: true,
      ...affineDefaults,
    });
    super(owner, o);
    this.training = false;
    this.axis = checkAxis(owner, o.axis);
    this.momentum = checkProbability(`${owner}: momentum`, o.momentum);
    this.#mean = readInitializer(`${owner}: movingMeanInitializer`, o.movingMeanInitializer, initializers);
    this.#variance = readInitializer(`${owner}: movingVarianceInitializer`, o.movingVarianceInitializer, initializers);
    this.#trainable = checkBoolean(`${owner}: trainable`, o.trainable);
  }

  get trainable(): boolean {
    return this.#trainable;
  }

  set trainable(on: boolean) {
    this.#trainable = checkBoolean("BatchNormalization: trainable", on);
    this.requiresGrad(on);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const { axis, epsilon: eps } = this;
    const at = normalizeAxis(axis, shape.length, "BatchNormalization: axis");
    const channels = lengthAt("BatchNormalization", shape, at);
    const conventions = { runningVariance: "biased", padded: "normalize", momentum: 1 - this.momentum } as const;
    const norm = new NNMaskedBatchNorm(channels, { axis, eps, dtype, ...conventions });
    this.start(norm, { movingMean: "runningMean", movingVariance: "runningVar" });
    this.#mean(this.movingMean);
    this.#variance(this.movingVariance);
    this.requiresGrad(this.#trainable);
  }

  override forward(x: Tensor, options?: MaskedCallOptions): Tensor {
    const owner = "BatchNormalization.call";
    const o = readOptions(owner, options, { training: this.training, mask: null as Mask | null });
    const training = checkBoolean(`${owner}: training`, o.training);
    return this.normFor(x, training && this.#trainable).forward(x, o.mask);
  }

  override call(x: Tensor, options?: MaskedCallOptions): Tensor {
    return this.forward(x, options);
  }
}

export interface LayerNormalizationOptions extends AffineOptions {
  /** The axis or axes that a statistic spans. Default -1. */
  readonly axis?: number | readonly number[];
}

/** Statistics over one axis or several; gamma and beta have the lengths of those axes. */
export class LayerNormalization extends KerasAffine<NNLayerNorm> {
  readonly axis: number | readonly number[];

  constructor(options?: LayerNormalizationOptions) {
    const defaults = { axis: -1 as number | readonly number[], ...affineDefaults };
    const o = readOptions("LayerNormalization", options, defaults);
    super("LayerNormalization", o);
    this.axis = checkAxes("LayerNormalization: axis", o.axis);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const axes = normalizeAxes(this.axis, shape.length);
    const lengths = axes.map((a) => lengthAt("LayerNormalization", shape, a));
    this.start(new NNLayerNorm(lengths, { eps: this.epsilon, dtype }));
  }

  override forward(x: Tensor, options?: CallOptions): Tensor {
    const norm = this.normFor(x, readTraining("LayerNormalization.call", options, this.training));
    return withLast(x, this.axis, (t) => norm.forward(t));
  }
}

export interface GroupNormalizationOptions extends AffineOptions {
  /** How many groups the channels fall into; -1: as many as there are channels. Default 32. */
  readonly groups?: number;
  /** Where the channels lie. Default -1. */
  readonly axis?: number;
}

/** Statistics for each sample over a group of channels and all positions. */
export class GroupNormalization extends KerasAffine<NNGroupNorm> {
  readonly groups: number;
  readonly axis: number;

  constructor(options?: GroupNormalizationOptions) {
    const o = readOptions("GroupNormalization", options, { groups: 32, axis: -1, ...affineDefaults });
    super("GroupNormalization", o);
    const counts = (v: number) => Number.isInteger(v) && (v >= 1 || v === -1);
    this.groups = checkNumber("GroupNormalization: groups", o.groups, "a whole number of at least 1, or -1", counts);
    this.axis = checkAxis("GroupNormalization", o.axis);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const { axis, epsilon: eps } = this;
    const at = normalizeAxis(axis, shape.length, "GroupNormalization: axis");
    const channels = lengthAt("GroupNormalization", shape, at);
    this.start(new NNGroupNorm(this.groups === -1 ? channels : this.groups, channels, { axis, eps, dtype }));
  }
}

export interface RMSNormalizationOptions extends LazyOptions {
  readonly epsilon?: number;
  /** The axis or axes that a statistic spans. Default -1. */
  readonly axis?: number | readonly number[];
}

/** Divides by the root mean square over one axis or several and multiplies by `scale`. */
export class RMSNormalization extends KerasLayer<NNRMSNorm> {
  declare scale: Parameter;
  readonly epsilon: number;
  readonly axis: number | readonly number[];

  constructor(options?: RMSNormalizationOptions) {
    const defaults = { epsilon: 1e-6, axis: -1 as number | readonly number[], ...lazyDefaults };
    const o = readOptions("RMSNormalization", options, defaults);
    super(o);
    this.epsilon = checkNonNegative("RMSNormalization: epsilon", o.epsilon);
    this.axis = checkAxes("RMSNormalization: axis", o.axis);
  }

  protected override make(shape: Shape, dtype: DType): void {
    const axes = normalizeAxes(this.axis, shape.length);
    const lengths = axes.map((a) => lengthAt("RMSNormalization", shape, a));
    this.wrap(new NNRMSNorm(lengths, { eps: this.epsilon, dtype }), { scale: "weight" }, this.dtype);
  }

  override forward(x: Tensor, options?: CallOptions): Tensor {
    const norm = this.normFor(x, readTraining("RMSNormalization.call", options, this.training));
    return withLast(x, this.axis, (t) => norm.forward(t));
  }
}

/** Vectors along one axis or several, scaled to length 1: x / sqrt(max(sum of x^2, 1e-12)). */
export class UnitNormalization extends KerasLayer<NNUnitNorm> {
  readonly axis: number | readonly number[];

  constructor(options?: LazyOptions & { readonly axis?: number | readonly number[] }) {
    const defaults = { axis: -1 as number | readonly number[], ...lazyDefaults };
    const o = readOptions("UnitNormalization", options, defaults);
    super(o);
    this.axis = checkAxes("UnitNormalization: axis", o.axis);
  }

  protected override make(): void {
    this.wrap(new NNUnitNorm(this.axis, { eps: 1e-6 }), {}, this.dtype);
  }
}
