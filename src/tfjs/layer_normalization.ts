import type { Tensor } from "@tensorflow/tfjs-core";
import { AxesNormLayer } from "./axes_norm_layer.js";
import {
  type AxesOption,
  affineDefaults,
  type BetaOptions,
  type EpsilonOption,
  type GammaOptions,
  type LayerOptions,
} from "./layer_options.js";
import { register } from "./names.js";

export interface LayerNormalizationOptions extends LayerOptions, EpsilonOption, GammaOptions, BetaOptions {
  /** The axis or axes that a statistic spans. Default -1. */
  readonly axis?: AxesOption;
}

const defaults = { axis: -1 as AxesOption, ...affineDefaults };

/**
 * One mean and one biased variance for each position of the other axes, over one axis or several. Weights gamma and beta have the
 * lengths of those axes, in the order in which they are named; as in Keras, their numbers lie in the order of the axes.
 */
export class LayerNormalization extends AxesNormLayer<typeof defaults> {
  static readonly className = "Evenkeel>LayerNormalization";
  static readonly kerasName = "LayerNormalization";
  static readonly defaults = defaults;

  constructor(options?: LayerNormalizationOptions) {
    super(options, defaults);
  }

  protected override normalized(x: Tensor): Tensor {
    return this.overAxes(x, true);
  }
}

register(LayerNormalization);
