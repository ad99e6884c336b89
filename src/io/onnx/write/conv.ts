import type { AdaptivePlan, ConvPlan, PoolPlan } from "../../../kernels/kernel_set.js";
import type { Exporter, Translations } from "./exporter.js";
import type { Graph, Value } from "./graph.js";

/** The numbers of a plan for the spatial axes that there are: plans fill up to three with axes of length 1 in front. */
const along = (x: Value, triple: readonly number[]): readonly number[] => triple.slice(5 - x.shape.length);

const convAttributes = (x: Value, plan: ConvPlan) => {
  const padding = along(x, plan.padding);
  return {
    kernel_shape: along(x, plan.kernel),
    strides: along(x, plan.stride),
    pads: [...padding, ...padding],
    dilations: along(x, plan.dilation),
    group: plan.groups,
  };
};

const withBias = (inputs: readonly (Value | null)[]): (Value | null)[] =>
  inputs[inputs.length - 1] === null ? inputs.slice(0, -1) : [...inputs];

/** Where windows of a pooling reach beyond the end of the input and the padding there, as they do when their count is rounded up. */
function endPads(x: Value, plan: PoolPlan): number[] {
  const [input, output] = [along(x, plan.input), along(x, plan.output)];
  const [kernel, stride, dilation] = [along(x, plan.kernel), along(x, plan.stride), along(x, plan.dilation)];
  const padding = along(x, plan.padding);
  return input.map((n, i) => {
    const reach = (output[i]! - 1) * stride[i]! + dilation[i]! * (kernel[i]! - 1) + 1;
    return Math.max(0, reach - n - padding[i]!);
  });
}

interface Pooling {
  readonly plan: PoolPlan;
}

const maxPool: Exporter = ({ g, out }, { x }, { plan }: Pooling) =>
  g.node("MaxPool", [x!], out.shape, {
    kernel_shape: along(x!, plan.kernel),
    strides: along(x!, plan.stride),
    pads: [...along(x!, plan.padding), ...endPads(x!, plan)],
    dilations: along(x!, plan.dilation),
  });

/** Means of windows over the last axes of [N, C, ...S]. */
export function averagePool(g: Graph, x: Value, plan: PoolPlan): Value {
  const padding = along(x, plan.padding);
  const ends = endPads(x, plan);
  const attributes = { kernel_shape: along(x, plan.kernel), strides: along(x, plan.stride) };
  const shape = [...x.shape.slice(0, 2), ...along(x, plan.output)];
  const overhang = ends.map((e, i) => Math.max(0, e - padding[i]!));
  if (!plan.countIncludePad || overhang.every((e) => e === 0)) {
    const pads = [...padding, ...ends];
    return g.node("AveragePool", [x], shape, { ...attributes, pads, count_include_pad: plan.countIncludePad ? 1 : 0 });
  }
  // Padding counts among the elements of a window, what lies beyond it does not: it is made part of the input.
  const widths = [0, 0, ...padding, 0, 0, ...padding];
  const whole = x.shape.map((d, i) => (i < 2 ? d : d + 2 * padding[i - 2]!));
  const padded = g.node("Pad", [x, g.lengths(widths), g.scalar(0, x.type)], whole, { mode: "constant" });
  const none = padding.map(() => 0);
  return g.node("AveragePool", [padded], shape, { ...attributes, pads: [...none, ...overhang], count_include_pad: 0 });
}

/** Row i: the weights of the inputs in the mean that output i is. */
function meansOf(from: number, to: number): Float64Array {
  const rows = new Float64Array(to * from);
  for (let i = 0; i < to; i++) {
    const [first, end] = [Math.floor((i * from) / to), Math.ceil(((i + 1) * from) / to)];
    rows.fill(1 / (end - first), i * from + first, i * from + end);
  }
  return rows;
}

/** Adaptive means along one axis as a product with a matrix: windows of different lengths are no pooling of ONNX's. */
function adaptiveAlong(g: Graph, x: Value, axis: number, to: number): Value {
  const from = x.shape[axis]!;
  const last = x.shape.length - 1;
  const order = x.shape.map((_, i) => (i === axis ? last : i === last ? axis : i));
  const rows = meansOf(from, to);
  const matrix = Float64Array.from(rows, (_, i) => rows[(i % to) * from + Math.floor(i / to)]!);
  const turned = g.transpose(x, order);
  const shape = [...turned.shape.slice(0, -1), to];
  const product = g.node("MatMul", [turned, g.list(matrix, [from, to])], shape);
  return g.transpose(product, order);
}

const adaptivePool: Exporter = ({ g, out }, { x }, { plan }: { plan: AdaptivePlan }) => {
  const [input, output] = [along(x!, plan.input), along(x!, plan.output)];
  if (output.every((n) => n === 1)) return g.node("GlobalAveragePool", [x!], out.shape);
  if (input.every((n, i) => n % output[i]! === 0)) {
    const size = input.map((n, i) => n / output[i]!);
    return g.node("AveragePool", [x!], out.shape, { kernel_shape: size, strides: size });
  }
  return output.reduce((y, to, i) => (to === input[i] ? y : adaptiveAlong(g, y, i + 2, to)), x!);
};

/** x's last two axes exchanged, of a constant matrix at once. */
function turned(g: Graph, x: Value): Value {
  const { shape, constant } = x;
  if (!constant || shape.length !== 2) {
    const last = shape.length - 1;
    return g.transpose(
      x,
      shape.map((_, i) => (i === last ? last - 1 : i === last - 1 ? last : i)),
    );
  }
  const [rows, columns] = shape as [number, number];
  const numbers = () => {
    const from = constant.numbers();
    return Float64Array.from({ length: from.length }, (_, i) => from[(i % rows) * columns + Math.floor(i / rows)]!);
  };
  return { ...x, shape: [columns, rows], constant: { ...constant, numbers }, name: constant.stateName ?? "" };
}

const convolutions: Translations = {
  conv({ g, out }, { x, weight, bias }, { plan }: { plan: ConvPlan }) {
    return g.node("Conv", withBias([x!, weight!, bias!]), out.shape, convAttributes(x!, plan));
  },
  /** Of a forward: a transposed convolution. Its plan is that of the convolution whose gradient it is. */
  conv_input_grad({ g, out }, { dy, weight }, { plan }: { plan: ConvPlan }) {
    const { kernel_shape, strides, pads, dilations, group } = convAttributes(dy!, plan);
    const [result, given] = [along(dy!, plan.input), along(dy!, plan.output)];
    const output_padding = result.map((n, i) => {
      const reach = dilations[i]! * (kernel_shape[i]! - 1) + 1;
      return n - ((given[i]! - 1) * strides[i]! - 2 * pads[i]! + reach);
    });
    const attributes = { kernel_shape, strides, pads, dilations, group };
    const extra = output_padding.some((n) => n > 0) ? { output_padding } : {};
    return g.node("ConvTranspose", [dy!, weight!], out.shape, { ...attributes, ...extra });
  },
};

const products: Translations = {
  linear({ g, out }, { x, weight, bias }) {
    if (x!.shape.length === 2) return g.node("Gemm", withBias([x!, weight!, bias!]), out.shape, { transB: 1 });
    const product = g.node("MatMul", [x!, turned(g, weight!)], out.shape);
    return bias ? g.add(product, bias) : product;
  },
  matmul({ g, out }, { a, b }, { transposeA, transposeB }: { transposeA: boolean; transposeB: boolean }) {
    return g.node("MatMul", [transposeA ? turned(g, a!) : a!, transposeB ? turned(g, b!) : b!], out.shape);
  },
};

export const windows: Translations = {
  ...convolutions,
  ...products,
  max_pool: maxPool,
  avg_pool: ({ g }, { x }, { plan }: Pooling) => averagePool(g, x!, plan),
  adaptive_avg_pool: adaptivePool,
};
