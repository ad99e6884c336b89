import { OptionError, ShapeError } from "../../base/errors.js";
import { checkPositiveInteger } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import type { ConvPlan } from "../../kernels/kernel_set.js";
import type { Tensor } from "../tensor.js";
import { checkConvTensors, convInputGrad } from "./conv.js";
import { batched, type PerAxis, perAxis, triple, unbatched } from "./windows.js";

export interface ConvTransposeOptions {
  readonly stride?: PerAxis;
  /** Positions taken off both ends of the result. Default 0. */
  readonly padding?: PerAxis;
  /** Positions added at the far end, to choose among the lengths that a strided convolution maps to one. Default 0. */
  readonly outputPadding?: PerAxis;
  readonly dilation?: PerAxis;
  readonly groups?: number;
}

/**
 * Transposed convolution: the gradient to the input of the convolution with this weight, taken of x, plus bias.
 * Length out = (in - 1) * stride - 2 * padding + dilation * (kernel - 1) + outputPadding + 1.
 *
 * Shapes: x [N, C, ...S] or [C, ...S], weight [C, O / groups, ...K], bias [O] or null, y [N, O, ...T].
 * Saves:  x and weight (see conv_input_grad, which this is).
 * Throws: ShapeError if channels do not match weight, or the result would be empty; DTypeError for mixed types;
 *         OptionError unless outputPadding is below stride or dilation.
 * Source: Zeiler et al. 2010, "Deconvolutional networks"; Dumoulin & Visin 2016, arXiv:1603.07285.
 */
export function convTranspose(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvTransposeOptions = {},
): Tensor {
  const axes = weight.rank - 2;
  if (axes < 1 || axes > 3) {
    throw new ShapeError({
      rule: "A transposed convolution's weight is [inChannels, outChannels / groups, ...kernel] with 1 to 3 kernel axes",
      got: formatShape(weight.shape),
    });
  }
  const owner = `convTranspose${axes}d`;
  const { x: input, single } = batched(owner, x, axes);
  const groups = checkPositiveInteger(`${owner} groups`, options.groups ?? 1);
  const outChannels = weight.shape[1]! * groups;
  checkConvTensors(owner, x, weight, bias, outChannels);
  const inChannels = input.shape[1]!;
  if (inChannels !== weight.shape[0] || inChannels % groups !== 0) {
    throw new ShapeError({
      rule: `${owner} with weight ${formatShape(weight.shape)} takes ${weight.shape[0]} input channels, which groups divides`,
      got: `input of shape ${formatShape(x.shape)} and groups ${groups}`,
    });
  }
  const kernel = weight.shape.slice(2);
  const stride = perAxis(`${owner} stride`, options.stride ?? 1, axes, 1);
  const padding = perAxis(`${owner} padding`, options.padding ?? 0, axes, 0);
  const dilation = perAxis(`${owner} dilation`, options.dilation ?? 1, axes, 1);
  const extra = perAxis(`${owner} outputPadding`, options.outputPadding ?? 0, axes, 0);
  if (extra.some((e, i) => e >= Math.max(stride[i]!, dilation[i]!))) {
    throw new OptionError({
      rule: `${owner} outputPadding must be smaller than stride or dilation`,
      got: `${formatShape(extra)} with stride ${formatShape(stride)} and dilation ${formatShape(dilation)}`,
    });
  }
  const spatial = input.shape.slice(2);
  const output = spatial.map(
    (n, i) => (n - 1) * stride[i]! - 2 * padding[i]! + dilation[i]! * (kernel[i]! - 1) + extra[i]! + 1,
  );
  if (output.some((n) => n < 1)) {
    throw new ShapeError({
      rule: `${owner} must have a result of at least length 1 along each axis`,
      got: `${formatShape(output)} from input ${formatShape(spatial)} and padding ${formatShape(padding)}`,
      fix: "Use less padding",
    });
  }
  // Seen as the convolution it transposes: its input is our result.
  const plan: ConvPlan = {
    ...{ batch: input.shape[0]!, inChannels: outChannels, outChannels: inChannels, groups },
    ...{ input: triple(output, 1), output: triple(spatial, 1), kernel: triple(kernel, 1) },
    ...{ stride: triple(stride, 1), padding: triple(padding, 0), dilation: triple(dilation, 1) },
  };
  const shape = [input.shape[0]!, outChannels, ...output];
  const y = convInputGrad({ dy: input, weight }, { plan, x: shape, weight: weight.shape, y: input.shape });
  const shifted = bias ? y.add(bias.reshape([outChannels, ...spatial.map(() => 1)])).cast(x.dtype) : y;
  return unbatched(shifted, single);
}
