import type { Tensor } from "@tensorflow/tfjs-core";
import type { Shape as LayerShape } from "@tensorflow/tfjs-layers";
import { normalizeAxes, normalizeAxis } from "../base/shape.js";
import { type AxesOption, readAxes } from "./layer_options.js";
import { NormLayer } from "./norm_layer.js";
import { normalize } from "./normalize.js";
import { axesPlan } from "./plan.js";

interface AxesOptions {
  readonly axis: AxesOption;
  readonly epsilon: number;
  readonly scale: boolean;
  readonly center?: boolean;
}

/** Layers whose statistics span chosen axes. */
export abstract class AxesNormLayer<O extends AxesOptions> extends NormLayer<O> {
  readonly axis: readonly number[];

  protected constructor(given: object | undefined, defaults: O) {
    super(given, defaults);
    this.axis = readAxes(`${this.owner}: axis`, this.options.axis);
  }

  protected override affineAxes(shape: LayerShape): number[] {
    normalizeAxes(this.axis, shape.length);
    return this.axis.map((a) => normalizeAxis(a, shape.length, `${this.owner}: axis`));
  }

  protected overAxes(x: Tensor, centred: boolean): Tensor {
    return normalize({ x, ...this.affine, plan: axesPlan(x.shape, this.axis, this.epsilon, centred) }).y;
  }
}
