import type { ConvPlan, KernelSet, Triple } from "../kernel_set.js";
import { directConv, directInputGrad, directWeightGrad, isDirect } from "./conv_direct.js";
import { byAxis, convNumbers, kernelConstants, volume } from "./conv_shape.js";
import { forward, inputGrad, weightGrad } from "./conv_tiles.js";
import { only } from "./elementwise.js";
import { runProduct } from "./product.js";

/** Convolutions as products of matrices that are gathered from images while they are multiplied. */
export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, p) {
    only("conv", ["float32"], x, weight, bias, y);
    if (isDirect(p)) return directConv(x, weight, bias, y, p);
    const positions = volume(p.output);
    runProduct(forward, {
      ...{ batch: p.groups, m: p.outChannels / p.groups, n: p.batch * positions, depth: productsOf(p), y },
      along: { left: true, right: false },
      operands: { x, weight },
      bias: bias && { slot: bias, inner: positions, count: p.outChannels },
      parameters: convNumbers(p),
      constants: constantsOf(p),
    });
  },

  convInputGrad(dy, weight, dx, p) {
    only("convInputGrad", ["float32"], dy, weight, dx);
    if (isDirect(p)) return directInputGrad(dy, weight, dx, p);
    const axes = [0, 1, 2].map((k) => phasesOf(p, k));
    const each = (f: (axis: Phases) => number): Triple => [f(axes[0]!), f(axes[1]!), f(axes[2]!)];
    const [phases, spots, taps] = [each((a) => a.phases), each((a) => a.spots), each((a) => a.taps)];
    runProduct(inputGrad, {
      ...{ batch: p.groups * volume(phases), m: p.inChannels / p.groups, n: p.batch * volume(spots), y: dx },
      depth: (p.outChannels / p.groups) * volume(taps),
      along: { left: volume(taps) > 1, right: false },
      operands: { dy, weight },
      parameters: { ...convNumbers(p), ...byAxis("phases", phases), ...byAxis("spots", spots) },
      constants: {
        ...constantsOf(p),
        ...byAxis("T_", taps),
        // A phase without taps has no depth, and what it would divide by must not be 0.
        ...byAxis(
          "LESS_",
          each((a) => Math.max(1, a.taps - 1)),
        ),
        ...byAxis(
          "REPEAT_",
          each((a) => a.repeat),
        ),
        ...byAxis(
          "STEP_",
          each((a) => a.step),
        ),
      },
    });
  },

  convWeightGrad(x, dy, dWeight, p) {
    only("convWeightGrad", ["float32"], x, dy, dWeight);
    if (isDirect(p)) return directWeightGrad(x, dy, dWeight, p);
    runProduct(weightGrad, {
      ...{ batch: p.groups, m: p.outChannels / p.groups, n: productsOf(p), y: dWeight },
      depth: p.batch * volume(p.output),
      along: { left: true, right: true },
      operands: { x, dy },
      parameters: convNumbers(p),
      constants: constantsOf(p),
    });
  },
};

const productsOf = (p: ConvPlan): number => (p.inChannels / p.groups) * volume(p.kernel);

const constantsOf = (p: ConvPlan): Record<string, number | boolean> => ({
  ...kernelConstants(p),
  FLAT: p.input[0] === 1 && p.kernel[0] === 1 && p.padding[0] === 0,
});

/** Along one axis: how many phases, their positions and taps (at most), taps from one to the next, and the way between. */
interface Phases {
  readonly phases: number;
  readonly spots: number;
  readonly taps: number;
  readonly repeat: number;
  readonly step: number;
}

function phasesOf({ input, kernel, stride, dilation }: ConvPlan, k: number): Phases {
  const common = greatestDivisor(stride[k]!, dilation[k]!);
  const repeat = stride[k]! / common;
  return {
    phases: Math.min(stride[k]!, input[k]!),
    spots: Math.ceil(input[k]! / stride[k]!),
    taps: Math.ceil(kernel[k]! / repeat),
    repeat,
    step: dilation[k]! / common,
  };
}

function greatestDivisor(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b];
  return a;
}
