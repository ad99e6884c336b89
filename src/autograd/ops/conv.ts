import type { DType } from "../../base/dtype.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { checkPositiveInteger } from "../../base/options.js";
import { formatShape, type Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { ConvPlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkLayerTypes } from "./floating.js";
import { batched, type PerAxis, perAxis, triple, unbatched, windowCounts } from "./windows.js";

export interface ConvOptions {
  readonly stride?: PerAxis;
  /** Zeros added on both sides; "same" keeps the spatial lengths (stride 1 only), "valid" is 0. */
  readonly padding?: PerAxis | "same" | "valid";
  readonly dilation?: PerAxis;
  /** Channels fall into this many groups, each convolved on its own. */
  readonly groups?: number;
}

/** A convolution's plan with the shapes of its three tensors. */
export interface ConvGeometry {
  readonly plan: ConvPlan;
  readonly x: Shape;
  readonly weight: Shape;
  readonly y: Shape;
}

/**
 * Cross-correlation y[n, o] = bias[o] + sum over c, k of weight[o, c, k] x[n, c, stride * position + dilation * k - padding],
 * over 1, 2 or 3 spatial axes, c running over the channels of o's group.
 *
 * It is linear in x and in weight, and so are the two gradients: d x is `convInputGrad` of dy and weight, d weight is
 * `convWeightGrad` of x and dy, and each of the three has the other two as its gradients. Derivatives of any order follow.
 *
 * Shapes: x [N, C, ...S], weight [O, C / groups, ...K], bias [O] or null, y [N, O, ...T].
 * Saves:  x and weight.
 * Types:  y and dx have x's, the other gradients that of weight and bias.
 * Source: Dumoulin & Visin 2016, arXiv:1603.07285.
 */
const convOp: Op<{ x: Tensor; weight: Tensor; bias: Tensor | null }, ConvGeometry, undefined> = defineOp<
  { x: Tensor; weight: Tensor; bias: Tensor | null },
  ConvGeometry,
  { x: Tensor; weight: Tensor }
>({
  name: "conv",
  forward({ x, weight, bias }, { plan, y }) {
    const out = Tensor.empty(y, x.dtype);
    kernels.conv(x.storage, weight.storage, bias?.storage ?? null, out.storage, plan);
    return { out, saved: { x, weight } };
  },
  backward(dy, { x, weight }, geometry) {
    return {
      x: () => convInputGrad({ dy, weight }, geometry),
      weight: () => convWeightGrad({ x, dy }, { ...geometry, dtype: weight.dtype }),
      bias: () =>
        dy.sum(
          dy.shape.map((_, i) => i).filter((i) => i !== 1),
          { dtype: weight.dtype },
        ),
    };
  },
  twiceDifferentiable: true,
  separable: true,
});

/** The transpose of convolution in x: dx = sum over positions of dy times weight. Saves dy and weight. */
export const convInputGrad: Op<{ dy: Tensor; weight: Tensor }, ConvGeometry, undefined> = defineOp<
  { dy: Tensor; weight: Tensor },
  ConvGeometry,
  { dy: Tensor; weight: Tensor }
>({
  name: "conv_input_grad",
  forward({ dy, weight }, { plan, x }) {
    const out = Tensor.empty(x, dy.dtype);
    kernels.convInputGrad(dy.storage, weight.storage, out.storage, plan);
    return { out, saved: { dy, weight } };
  },
  backward(g, { dy, weight }, geometry) {
    return {
      dy: () => convOp({ x: g, weight, bias: null }, geometry),
      weight: () => convWeightGrad({ x: g, dy }, { ...geometry, dtype: weight.dtype }),
    };
  },
  twiceDifferentiable: true,
  separable: true,
});

interface WeightGeometry extends ConvGeometry {
  /** The weight's type. */
  readonly dtype: DType;
}

/** The transpose of convolution in weight: dWeight = sum over batch and positions of x times dy. Saves x and dy. */
const convWeightGrad: Op<{ x: Tensor; dy: Tensor }, WeightGeometry, undefined> = defineOp<
  { x: Tensor; dy: Tensor },
  WeightGeometry,
  { x: Tensor; dy: Tensor }
>({
  name: "conv_weight_grad",
  forward({ x, dy }, { plan, weight, dtype }) {
    const out = Tensor.empty(weight, dtype);
    kernels.convWeightGrad(x.storage, dy.storage, out.storage, plan);
    return { out, saved: { x, dy } };
  },
  backward(g, { x, dy }, geometry) {
    return {
      x: () => convInputGrad({ dy, weight: g }, geometry),
      dy: () => convOp({ x, weight: g, bias: null }, geometry),
    };
  },
  twiceDifferentiable: true,
});

/** Throws unless x, weight and bias have types that go together and bias has `channels` elements. */
export function checkConvTensors(
  owner: string,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null | undefined,
  channels: number,
): void {
  checkLayerTypes(owner, x, weight, bias ?? null);
  if (bias && (bias.rank !== 1 || bias.size !== channels)) {
    throw new ShapeError({ rule: `${owner} needs a bias of shape [${channels}]`, got: formatShape(bias.shape) });
  }
}

/**
 * Convolution over as many spatial axes as `weight` has (1 to 3).
 * Throws ShapeError if x is not [N, C, ...S] or [C, ...S], channels and groups do not match weight, or the kernel does
 * not fit; DTypeError for mixed types; OptionError for options out of range.
 */
export function conv(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: ConvOptions = {}): Tensor {
  const axes = weight.rank - 2;
  if (axes < 1 || axes > 3) {
    throw new ShapeError({
      rule: "A convolution's weight is [outChannels, inChannels / groups, ...kernel] with 1 to 3 kernel axes",
      got: formatShape(weight.shape),
    });
  }
  const owner = `conv${axes}d`;
  const whole = batched(owner, x, axes);
  const [outChannels, perGroup] = [weight.shape[0]!, weight.shape[1]!];
  const groups = checkPositiveInteger(`${owner} groups`, options.groups ?? 1);
  checkConvTensors(owner, x, weight, bias, outChannels);
  const inChannels = whole.x.shape[1]!;
  if (inChannels !== perGroup * groups || outChannels % groups !== 0) {
    throw new ShapeError({
      rule: `${owner} with weight ${formatShape(weight.shape)} and ${groups === 1 ? "one group" : `${groups} groups`} takes ${perGroup * groups} input channels (axis ${whole.single ? 0 : 1}), and groups divides the output channels`,
      got: `input of shape ${formatShape(x.shape)}, ${inChannels} channels in and ${outChannels} out`,
      fix: "Channels stand before the spatial axes: permute a channels-last input, or change inChannels",
    });
  }
  const kernel = weight.shape.slice(2);
  const stride = perAxis(`${owner} stride`, options.stride ?? 1, axes, 1);
  const dilation = perAxis(`${owner} dilation`, options.dilation ?? 1, axes, 1);
  const { padding, input } = padded(owner, whole.x, { kernel, stride, dilation }, options.padding ?? 0);
  const spatial = input.shape.slice(2);
  const output = windowCounts(owner, spatial, { kernel, stride, padding, dilation });
  const plan: ConvPlan = {
    ...{ batch: input.shape[0]!, inChannels, outChannels, groups },
    ...{ input: triple(spatial, 1), output: triple(output, 1), kernel: triple(kernel, 1) },
    ...{ stride: triple(stride, 1), padding: triple(padding, 0), dilation: triple(dilation, 1) },
  };
  const geometry = { plan, x: input.shape, weight: weight.shape, y: [input.shape[0]!, outChannels, ...output] };
  return unbatched(convOp({ x: input, weight, bias }, geometry), whole.single);
}

/** Resolves `padding`; where "same" needs one zero more behind than before, the input gets it. */
function padded(
  owner: string,
  x: Tensor,
  w: { kernel: readonly number[]; stride: readonly number[]; dilation: readonly number[] },
  padding: PerAxis | "same" | "valid",
): { padding: number[]; input: Tensor } {
  const axes = w.kernel.length;
  if (padding === "valid") return { padding: new Array<number>(axes).fill(0), input: x };
  if (padding !== "same") {
    if (typeof padding === "string") {
      throw new OptionError({ rule: `${owner} padding is a number, a list, "same" or "valid"`, got: `"${padding}"` });
    }
    return { padding: perAxis(`${owner} padding`, padding, axes, 0), input: x };
  }
  if (w.stride.some((s) => s !== 1)) {
    throw new OptionError({
      rule: `${owner} padding "same" needs stride 1`,
      got: `stride ${formatShape(w.stride)}`,
      fix: "Give the padding as numbers",
    });
  }
  const total = w.kernel.map((k, i) => w.dilation[i]! * (k - 1));
  const odd = total.map((t): [number, number] => [0, t % 2]);
  const input = odd.some(([, after]) => after > 0) ? x.pad([[0, 0], [0, 0], ...odd]) : x;
  return { padding: total.map((t) => Math.floor(t / 2)), input };
}
