import type { serialization, Tensor } from "@tensorflow/tfjs-core";
import { AxesNormLayer } from "./axes_norm_layer.js";
import {
  type AxesOption,
  type EpsilonOption,
  type GammaOptions,
  gammaDefaults,
  type LayerOptions,
} from "./layer_options.js";
import { register } from "./names.js";

export interface RMSNormalizationOptions extends LayerOptions, EpsilonOption, GammaOptions {
  /** The axis or axes that a statistic spans. Default -1. */
  readonly axis?: AxesOption;
}

const defaults = { axis: -1 as AxesOption, epsilon: 1e-6, ...gammaDefaults };

/**
 * Divides by the root of the mean square over one axis or several, and multiplies by gamma, whose name among the weights is
 * "scale", as Keras has it.
 */
export class RMSNormalization extends AxesNormLayer<typeof defaults> {
  static readonly className = "Evenkeel>RMSNormalization";
  static readonly kerasName = "RMSNormalization";
  static readonly defaults = defaults;

  constructor(options?: RMSNormalizationOptions) {
    super(options, defaults);
  }

  protected override buildWeights(lengths: number[]): void {
    if (this.options.scale) this.gamma = this.weight("gamma", lengths, "scale");
  }

  protected override normalized(x: Tensor): Tensor {
    return this.overAxes(x, false);
  }

  /** Keras's layer knows no options for its scale, so they are left out where they are the defaults. */
  override getConfig(): serialization.ConfigDict {
    const { scale, gammaInitializer, gammaRegularizer, gammaConstraint, ...config } = super.getConfig();
    const usual = (gammaInitializer as serialization.ConfigDict).className === "Ones";
    return {
      ...config,
      ...(scale ? {} : { scale: false }),
      ...(usual ? {} : { gammaInitializer: gammaInitializer! }),
      ...(gammaRegularizer ? { gammaRegularizer } : {}),
      ...(gammaConstraint ? { gammaConstraint } : {}),
    };
  }
}

register(RMSNormalization);
