import type { Tensor } from "@tensorflow/tfjs-core";
import type { Shape as LayerShape, LayerVariable } from "@tensorflow/tfjs-layers";
import { ShapeError } from "../base/errors.js";
import { checkProbability } from "../base/options.js";
import { formatShape, normalizeAxis, sameShape } from "../base/shape.js";
import type { InitializerOption } from "./identifiers.js";
import {
  affineDefaults,
  type BetaOptions,
  type EpsilonOption,
  type GammaOptions,
  type LayerOptions,
  readAxis,
} from "./layer_options.js";
import { register } from "./names.js";
import { type Kwargs, NormLayer } from "./norm_layer.js";
import { average, normalize } from "./normalize.js";
import { batchPlan, type Mask } from "./plan.js";

export interface BatchNormalizationOptions extends LayerOptions, EpsilonOption, GammaOptions, BetaOptions {
  /** Where the channels lie. Default -1. */
  readonly axis?: number;
  /** Weight of the old moving statistics. Default 0.99. */
  readonly momentum?: number;
  /** Default "zeros". */
  readonly movingMeanInitializer?: InitializerOption;
  /** Default "ones". */
  readonly movingVarianceInitializer?: InitializerOption;
}

const defaults = {
  axis: -1,
  momentum: 0.99,
  ...affineDefaults,
  movingMeanInitializer: "zeros" as InitializerOption,
  movingVarianceInitializer: "ones" as InitializerOption,
};

/**
 * One mean and one biased variance for each channel, over all other axes: the batch's in training, which move the moving ones,
 * and otherwise the moving ones. With `trainable: false` always the latter, as in Keras.
 *
 * Weights gamma, beta, moving_mean, moving_variance, each [C]. A mask of x's shape without the channel axis keeps positions out
 * of the statistics; they are normalized like the others. A mask of any other shape is not this layer's: TensorFlow.js goes on
 * handing a mask to layers behind those that dropped it.
 */
export class BatchNormalization extends NormLayer<typeof defaults> {
  static readonly className = "Evenkeel>BatchNormalization";
  static readonly kerasName = "BatchNormalization";
  static readonly defaults = defaults;
  readonly axis: number;
  readonly momentum: number;
  /** null before the first input. */
  movingMean: LayerVariable | null = null;
  movingVariance: LayerVariable | null = null;

  constructor(options?: BatchNormalizationOptions) {
    super(options, defaults);
    this.axis = readAxis("BatchNormalization: axis", this.options.axis);
    this.momentum = checkProbability("BatchNormalization: momentum", this.options.momentum);
  }

  protected override affineAxes(shape: LayerShape): number[] {
    return [normalizeAxis(this.axis, shape.length, "BatchNormalization: axis")];
  }

  protected override buildWeights(lengths: number[]): void {
    super.buildWeights(lengths);
    this.movingMean = this.weight("movingMean", lengths, "moving_mean", false);
    this.movingVariance = this.weight("movingVariance", lengths, "moving_variance", false);
  }

  protected override normalized(x: Tensor, kwargs: Kwargs): Tensor {
    const plan = batchPlan(x.shape, this.axis, this.epsilon);
    const [movingMean, movingVariance] = [this.movingMean!, this.movingVariance!];
    if (!kwargs.training || !this.trainable) {
      const given = { mean: movingMean.read(), variance: movingVariance.read() };
      return normalize({ x, ...this.affine, plan, given }).y;
    }
    if (x.size === 0) {
      throw new ShapeError({
        rule: "BatchNormalization cannot take statistics from an empty batch",
        got: `an input of shape ${formatShape(x.shape)}`,
        fix: "Leave empty batches out of training",
      });
    }
    const { y, mean, variance } = normalize({ x, ...this.affine, plan, mask: this.#maskOf(x, kwargs.mask) });
    this.#move(movingMean, mean!);
    this.#move(movingVariance, variance);
    return y;
  }

  #move(moving: LayerVariable, batch: Tensor): void {
    moving.write(average(moving.read(), batch, this.momentum));
  }

  #maskOf({ shape }: Tensor, mask: Tensor | Tensor[] | null | undefined): Mask | null {
    const positions = Array.isArray(mask) ? mask[0] : mask;
    const axis = normalizeAxis(this.axis, shape.length);
    if (!positions || !sameShape(positions.shape, shape.toSpliced(axis, 1))) return null;
    return { positions, axis };
  }
}

register(BatchNormalization);
