import { ones, type Tensor } from "../../autograd/index.js";
import { defineNorm } from "../../autograd/ops/fused_norm.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { checkBoolean, checkNonNegative, readOptions } from "../../base/options.js";
import { formatShape, normalizeAxis } from "../../base/shape.js";
import { batchView, type NormCase, statisticSize } from "../../norm/views.js";
import { ConvTranspose1d, ConvTranspose2d, ConvTranspose3d } from "../conv_transpose.js";
import type { Module } from "../module.js";
import { affineParameter } from "./affine_parameter.js";
import { parametrize, partsOf } from "./parametrize.js";

export interface WeightStandardizationOptions {
  /** The property that holds the weight. Default "weight". */
  readonly name?: string;
  readonly eps?: number;
  /** True learns a factor for each output channel, as state weight_gain. Default false. */
  readonly gain?: boolean;
  /** The axis of the output channels. Default 0; 1 for transposed convolutions. */
  readonly dim?: number;
}

const op = defineNorm("weight_standardization");

/** The axis that a layer's outputs lie on in its weight. */
export const outputAxis = (module: Module): number =>
  [ConvTranspose1d, ConvTranspose2d, ConvTranspose3d].some((c) => module instanceof c) ? 1 : 0;

/**
 * w' = gain (w - mean) / sqrt(var + eps), with one mean and one biased variance for each index of `dim`.
 * Shapes: w and w' alike; gain [w.shape[dim]] or null. A constant weight gives 0 and a finite gradient.
 * Throws ShapeError if a channel has a single weight, which standardized is 0 whatever it is.
 * Source: Qiao et al. 2019, arXiv:1903.10520 (which takes the unbiased deviation plus eps).
 */
export function weightStandardized(
  weight: Tensor,
  options?: { readonly eps?: number; readonly gain?: Tensor | null; readonly dim?: number },
): Tensor {
  const o = readOptions("F.weightStandardization", options, { eps: 1e-5, gain: null as Tensor | null, dim: 0 });
  checkNonNegative("weightStandardization: eps", o.eps);
  const a = normalizeAxis(o.dim, weight.rank, "weightStandardization: dim");
  const channels = weight.shape[a]!;
  const size = weight.size / channels;
  // Channels in front are rows of memory; each row has a gain of its own.
  const rows: NormCase = { kernel: "row", view: { rows: channels, size, groups: channels, inner: size } };
  const on = a === 0 ? rows : batchView(weight.shape, a);
  if (statisticSize(on) < 2) {
    throw new ShapeError({
      rule: "weightStandardization takes more than one weight for each output channel",
      got: `one, in a weight of shape ${formatShape(weight.shape)}`,
    });
  }
  return op({ x: weight, weight: o.gain, bias: null }, { on, eps: o.eps, affineShape: [channels] });
}

/**
 * Standardizes a weight before each forward: mean 0 and variance 1 for each output channel. Changes the module in place
 * and returns it. The learned weight keeps its name in the state, so that a plain layer's checkpoint loads; between
 * forwards `module.weight` is the learned one. `removeParametrization` undoes it.
 */
export function weightStandardization<M extends Module>(module: M, options?: WeightStandardizationOptions): M {
  const { name, eps, gain, dim } = readOptions("weightStandardization", options, {
    ...{ name: "weight", eps: 1e-5, gain: false },
    dim: outputAxis(module),
  });
  checkBoolean("weightStandardization: gain", gain);
  const { groups } = module as { readonly groups?: number };
  if (outputAxis(module) === 1 && groups !== undefined && groups > 1) {
    throw new OptionError({
      rule: "weightStandardization takes transposed convolutions without groups",
      got: `groups ${groups}`,
      fix: "Axis 1 of their weight holds one group's outputs, whose statistics would mix all groups",
    });
  }
  parametrize("weightStandardization", module, name, (weight) => {
    const factor = `${name}Gain`;
    const parts = partsOf(module);
    const compute = (w: Tensor) => weightStandardized(w, { eps, dim, gain: parts[factor] ?? null });
    compute(weight).dispose();
    const { dtype, device } = weight;
    const channels = weight.shape[normalizeAxis(dim, weight.rank)]!;
    const parameters = gain ? { [factor]: affineParameter(ones([channels], { dtype, device })) } : {};
    return { by: "weightStandardization", original: name, parameters, weight: () => compute(weight) };
  });
  return module;
}
