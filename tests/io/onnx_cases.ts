import type { Numbers } from "./onnx_model.js";

export type { Case } from "./onnx_case.js";

import {
  at,
  bools,
  type Case,
  f,
  fl,
  given,
  i64,
  ints,
  odd,
  positive,
  type Rest,
  scalar,
  unary,
  unit,
} from "./onnx_case.js";
import { indexing, made, movements } from "./onnx_cases_movement.js";

const norms: Case[] = [
  at("BatchNormalization", [9, 14, 15], [f(3, 5, 4, 3), f(5), f(5), f(5), positive(5)], {
    attributes: { epsilon: fl(1e-3) },
  }),
  at("BatchNormalization", [15], [f(7, 5), f(5), f(5), f(5), positive(5)]),
  at("BatchNormalization", [14, 15], [f(3, 5, 4, 3), f(5), f(5), f(5), positive(5)], {
    attributes: { training_mode: 1, momentum: fl(0.7) },
    outputs: 3,
  }),
  at("InstanceNormalization", [9, 22], [f(3, 5, 7), f(5), f(5)], { attributes: { epsilon: fl(1e-2) } }),
  at("InstanceNormalization", [9], [f(2, 3, 4, 5), f(3), f(3)]),
  at("GroupNormalization", [18], [f(3, 6, 5), f(2), f(2)], { attributes: { num_groups: 2, epsilon: fl(1e-3) } }),
  at("GroupNormalization", [21], [f(3, 6, 5, 2), f(6), f(6)], { attributes: { num_groups: 3 } }),
  at("LayerNormalization", [17], [f(3, 4, 5), f(5), f(5)], { outputs: 3 }),
  at("LayerNormalization", [17], [f(3, 4, 5), f(4, 5), f(4, 5)], {
    attributes: { axis: 1, epsilon: fl(1e-2) },
    outputs: 3,
  }),
  at("LayerNormalization", [17], [f(3, 4, 5), f(5)], { attributes: { axis: -1 } }),
  at("RMSNormalization", [23], [f(3, 4, 5), f(5)], { attributes: { epsilon: fl(1e-3) } }),
  at("RMSNormalization", [23], [f(3, 4, 5), f(4, 5)], { attributes: { axis: 1 } }),
  at("LRN", [9, 13], [f(2, 7, 3, 4)], { attributes: { size: 3, alpha: fl(0.5), beta: fl(0.6), bias: fl(1.5) } }),
  at("LRN", [13], [f(2, 3, 5, 2)], { attributes: { size: 5 } }),
  at("MeanVarianceNormalization", [9, 13], [f(3, 4, 2, 5)]),
  at("MeanVarianceNormalization", [13], [f(3, 4, 2)], { attributes: { axes: [0, 2] } }),
  at("LpNormalization", [9, 22], [f(3, 4, 5)]),
  at("LpNormalization", [9], [f(3, 4, 5)], { attributes: { p: 1, axis: 1 } }),
];

const convolutions: Case[] = [
  at("Conv", [9, 11, 22], [f(2, 3, 7, 8), f(4, 3, 3, 2), f(4)], {
    attributes: { pads: [1, 0, 1, 0], strides: [2, 1] },
  }),
  at("Conv", [11], [f(2, 3, 7, 8), f(4, 3, 3, 2)], { attributes: { pads: [0, 1, 2, 0] } }),
  at("Conv", [11], [f(2, 4, 9), f(6, 2, 3), f(6)], { attributes: { group: 2, dilations: [2] } }),
  at("Conv", [11], [f(1, 2, 4, 5, 6), f(3, 2, 2, 3, 2)], { attributes: { kernel_shape: [2, 3, 2] } }),
  at("Conv", [11], [f(2, 3, 7, 8), f(4, 3, 3, 2)], { attributes: { auto_pad: "SAME_UPPER", strides: [2, 2] } }),
  at("Conv", [11], [f(2, 3, 7, 8), f(4, 3, 2, 2)], { attributes: { auto_pad: "SAME_LOWER" } }),
  at("Conv", [11], [f(2, 3, 7, 8), f(4, 3, 3, 3)], { attributes: { auto_pad: "VALID" } }),
  at("ConvTranspose", [9, 11, 22], [f(2, 3, 5, 4), f(3, 2, 3, 2), f(2)], { attributes: { strides: [2, 3] } }),
  at("ConvTranspose", [11], [f(2, 3, 5, 4), f(3, 2, 3, 3), f(2)], {
    attributes: { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] },
  }),
  at("ConvTranspose", [11], [f(2, 3, 5, 4), f(3, 2, 3, 3), f(2)], {
    attributes: { strides: [2, 2], pads: [0, 1, 2, 0] },
  }),
  at("ConvTranspose", [11], [f(2, 4, 6), f(4, 3, 3)], { attributes: { group: 2, dilations: [2], pads: [1, 1] } }),
  at("ConvTranspose", [11], [f(1, 2, 5, 4), f(2, 3, 3, 3)], { attributes: { strides: [3, 2], output_shape: [14, 9] } }),
  at("ConvTranspose", [11], [f(1, 2, 5, 4), f(2, 3, 3, 3)], {
    attributes: { strides: [2, 2], auto_pad: "SAME_UPPER" },
  }),
  at("ConvTranspose", [11], [f(1, 2, 5, 4), f(2, 3, 3, 3)], {
    attributes: { strides: [2, 2], auto_pad: "SAME_LOWER" },
  }),
  at("Gemm", [9, 11, 13], [f(3, 4), f(4, 5), f(5)]),
  at("Gemm", [13], [f(4, 3), f(5, 4), f(3, 1)], { attributes: { transA: 1, transB: 1, alpha: fl(0.5), beta: fl(-2) } }),
  at("Gemm", [13], [f(3, 4), f(4, 5)]),
  at("MatMul", [9, 13], [f(2, 1, 3, 4), f(5, 4, 2)]),
  at("MatMul", [13], [f(4), f(2, 4, 3)]),
  at("MatMul", [13], [f(2, 3, 4), f(4)]),
  at("MatMul", [13], [f(4), f(4)]),
  at("Einsum", [12], [f(2, 3, 4), f(2, 4, 5)], { attributes: { equation: "bij,bjk->bik" } }),
  at("Einsum", [12], [f(2, 5, 3, 4), f(2, 6, 3, 4)], { attributes: { equation: "bqhd, bkhd -> bhqk" } }),
  at("Einsum", [12], [f(3, 4), f(4, 2)], { attributes: { equation: "ij,jk" } }),
  at("Einsum", [12], [f(3, 4, 2)], { attributes: { equation: "ijk->kj" } }),
  at("Einsum", [12], [f(3), f(4)], { attributes: { equation: "i,j->ji" } }),
];

const attentions: Case[] = [
  at("Attention", [23], [f(2, 3, 5, 4), f(2, 3, 6, 4), f(2, 3, 6, 2)]),
  at("Attention", [23], [f(2, 5, 8), f(2, 6, 4), f(2, 6, 4), f(5, 6)], {
    attributes: { q_num_heads: 4, kv_num_heads: 2, scale: fl(0.3) },
  }),
  at("Attention", [23], [f(2, 3, 5, 4), f(2, 3, 5, 4), f(2, 3, 5, 4)], { attributes: { is_causal: 1 } }),
  at(
    "Attention",
    [23],
    [f(1, 2, 3, 4), f(1, 2, 5, 4), f(1, 2, 5, 4), given([1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1], [3, 5], "bool")],
  ),
  at("Attention", [23], [f(1, 2, 3, 4), f(1, 2, 2, 4), f(1, 2, 2, 4), f(3, 5), f(1, 2, 3, 4), f(1, 2, 3, 4)], {
    outputs: 3,
  }),
];

const pools: Case[] = [
  at("MaxPool", [9, 12], [f(2, 3, 7, 8)], {
    attributes: { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1] },
    outputs: 2,
  }),
  at("MaxPool", [12], [f(2, 2, 7, 6)], {
    attributes: { kernel_shape: [2, 3], dilations: [2, 1], ceil_mode: 1, strides: [2, 2], storage_order: 1 },
    outputs: 2,
  }),
  at("MaxPool", [9, 10, 12], [f(2, 3, 7, 8)], {
    attributes: { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 0] },
  }),
  at("MaxPool", [12], [f(2, 3, 7, 8)], { attributes: { kernel_shape: [3, 2], strides: [2, 3], ceil_mode: 1 } }),
  at("MaxPool", [12], [f(2, 3, 9, 8)], { attributes: { kernel_shape: [3, 2], dilations: [2, 3], pads: [0, 1, 1, 0] } }),
  at("MaxPool", [12], [f(2, 3, 9)], { attributes: { kernel_shape: [4], strides: [3], auto_pad: "SAME_LOWER" } }),
  at("MaxPool", [12], [f(1, 2, 5, 4, 6)], { attributes: { kernel_shape: [2, 2, 3] } }),
  at("AveragePool", [9, 11, 19], [f(2, 3, 7, 8)], {
    attributes: { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 1, 1, 1] },
  }),
  at("AveragePool", [11], [f(2, 3, 7, 8)], {
    attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1 },
  }),
  at("AveragePool", [11], [f(2, 3, 7, 8)], { attributes: { kernel_shape: [3, 2], pads: [0, 1, 2, 0] } }),
  at("AveragePool", [11], [f(2, 3, 7, 8)], {
    attributes: { kernel_shape: [3, 2], pads: [0, 1, 2, 0], count_include_pad: 1 },
  }),
  at("AveragePool", [19, 22], [f(2, 3, 7, 8)], { attributes: { kernel_shape: [3, 3], strides: [2, 3], ceil_mode: 1 } }),
  at("AveragePool", [19], [f(2, 3, 8, 8)], {
    attributes: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1, pads: [1, 0, 0, 1], count_include_pad: 1 },
  }),
  at("AveragePool", [19], [f(2, 3, 9, 8)], {
    attributes: { kernel_shape: [3, 2], dilations: [2, 2], pads: [1, 0, 1, 1] },
  }),
  at("AveragePool", [11], [f(2, 3, 9)], { attributes: { kernel_shape: [4], strides: [3], auto_pad: "SAME_UPPER" } }),
  at("LpPool", [9, 18], [f(2, 3, 7, 8)], { attributes: { kernel_shape: [3, 2], strides: [2, 1] } }),
  at("LpPool", [18], [f(2, 3, 7)], { attributes: { kernel_shape: [3], p: 3, pads: [1, 1] } }),
  at("GlobalAveragePool", [9, 22], [f(2, 3, 4, 5)]),
  at("GlobalMaxPool", [9], [f(2, 3, 4, 5)]),
  at("GlobalLpPool", [9], [f(2, 3, 4, 5)], { attributes: { p: 3 } }),
];

const pairs = (names: string[], opsets: number[], a: () => Numbers, b: () => Numbers): Case[] =>
  names.map((op) => at(op, opsets, [a(), b()]));

const elementwise: Case[] = [
  ...pairs(
    ["Add", "Sub", "Mul", "Div"],
    [9, 13, 14],
    () => f(2, 1, 4),
    () => f(3, 1),
  ),
  ...pairs(
    ["Add", "Sub", "Mul", "Div"],
    [14],
    () => ints([2, 3], -50, 50),
    () => given([3, -7, 2], [3], "int64"),
  ),
  ...pairs(
    ["Add", "Mul"],
    [14],
    () => ints([2, 3], -50, 50, "int32"),
    () => given([3, -7, 2], [3], "int32"),
  ),
  ...pairs(
    ["Less", "Greater"],
    [9, 13],
    () => given([1, 2, 3, 4]),
    () => given([2, 2, 1, 4]),
  ),
  ...pairs(
    ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"],
    [16],
    () => ints([2, 3], 0, 3),
    () => ints([3], 0, 3),
  ),
  ...pairs(
    ["LessOrEqual", "GreaterOrEqual"],
    [12, 16],
    () => given([1, 2, 3, 4]),
    () => given([2, 2, 1, 4]),
  ),
  ...pairs(
    ["And", "Or", "Xor"],
    [9],
    () => bools(2, 3),
    () => bools(3),
  ),
  at("Equal", [9, 11], [bools(6), bools(6)]),
  at("Equal", [9], [i64([1, 2]), i64([1, 3])]),
  at("Equal", [11, 13], [given([1, 2, 3, 4]), given([2, 2, 1, 4])]),
  at("Not", [9], [bools(5)]),
  at("Pow", [9, 13, 15], [positive(2, 3), f(3)]),
  at("Pow", [12], [f(2, 3), scalar(2)]),
  at("Pow", [13], [f(2, 3), scalar(3, "int64")]),
  at("Pow", [13], [ints([4], 1, 5), i64([2, 3, 0, 1])]),
  at("Mod", [10, 13], [f(3, 4), positive(4)], { attributes: { fmod: 1 } }),
  at("Mod", [13], [ints([8], -20, 20), given([3, -3, 7, -7, 5, 5, -2, 2], [8], "int64")]),
  at("Mod", [13], [ints([8], -20, 20), given([3, -3, 7, -7, 5, 5, -2, 2], [8], "int64")], { attributes: { fmod: 1 } }),
  ...["Min", "Max", "Sum", "Mean"].map((op) => at(op, [9, 13], [f(2, 3), f(3), f(2, 1)])),
  ...["Min", "Max"].map((op) => at(op, [12], [ints([4], 0, 9), ints([4], 0, 9)])),
  ...unary(
    [
      "Exp",
      "Abs",
      "Neg",
      "Floor",
      "Ceil",
      "Sign",
      "Erf",
      "Tanh",
      "Sigmoid",
      "Sin",
      "Cos",
      "Tan",
      "Sinh",
      "Cosh",
      "Asinh",
      "Atan",
    ],
    () => f(3, 5),
    [9, 13],
  ),
  ...unary(["Sqrt", "Log", "Reciprocal"], () => positive(3, 5), [9, 13]),
  ...unary(["Asin", "Acos", "Atanh"], () => unit(3, 5), [9]),
  at("Acosh", [9], [given([1.1, 1.5, 2, 30])]),
  at("Round", [11, 22], [given([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6])]),
  ...unary(["Abs", "Neg", "Sign"], () => ints([5], -9, 9), [13]),
  at("IsNaN", [9, 13], [odd()]),
  at("IsInf", [10], [odd()]),
  at("IsInf", [10], [odd()], { attributes: { detect_negative: 0 } }),
  at("Where", [9, 16], [bools(2, 1, 3), f(4, 1), f(3)]),
  at("Where", [9], [bools(3), i64([1, 2, 3]), i64([4, 5, 6])]),
  at("Clip", [9], [f(3, 4)], { attributes: { min: fl(-0.5), max: fl(0.3) } }),
  at("Clip", [11, 13], [f(3, 4), scalar(-0.5), scalar(0.3)]),
  at("Clip", [13], [f(3, 4), null, scalar(0.3)]),
  at("Clip", [12], [ints([6], -9, 9), scalar(-2, "int64"), scalar(3, "int64")]),
];

const activations: Case[] = [
  ...unary(
    ["Relu", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Softplus", "Softsign", "ThresholdedRelu"],
    () => f(3, 7),
    [10, 13],
  ),
  at("Relu", [13], [given([-1, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])]),
  at("Elu", [9], [given([-1, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3])], {
    attributes: { alpha: fl(0.7) },
  }),
  at("LeakyRelu", [16], [f(8)], { attributes: { alpha: fl(0.3) } }),
  at("Celu", [12], [f(3, 4)], { attributes: { alpha: fl(2) } }),
  at("Selu", [9], [f(8)], { attributes: { alpha: fl(1.5), gamma: fl(2) } }),
  at("ThresholdedRelu", [10], [f(8)], { attributes: { alpha: fl(0.4) } }),
  at("HardSigmoid", [9], [f(8)], { attributes: { alpha: fl(0.5), beta: fl(0.4) } }),
  at("PRelu", [9, 16], [f(2, 3, 4), f(3, 1)]),
  at("HardSwish", [14], [f(3, 7)]),
  at("Mish", [18], [f(3, 7)]),
  at("Gelu", [20], [f(3, 7)]),
  at("Gelu", [20], [f(3, 7)], { attributes: { approximate: "tanh" } }),
  at("Swish", [24], [f(3, 7)], { attributes: { alpha: fl(1.5) } }),
  at("Shrink", [9], [f(3, 7)], { attributes: { lambd: fl(0.4), bias: fl(0.1) } }),
  ...["Softmax", "LogSoftmax"].flatMap((op) => [
    at(op, [9, 11, 13], [f(3, 4, 5)]),
    at(op, [11, 13], [f(3, 4, 5)], { attributes: { axis: 0 } }),
    at(op, [13], [f(3, 4, 5)], { attributes: { axis: -2 } }),
  ]),
];

const reductionNames = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare"].map(
  (n) => `Reduce${n}`,
);
const reductions: Case[] = [
  ...reductionNames.flatMap((op) => [
    at(op, [9, 11], [f(3, 4, 5)], { attributes: { axes: [0, 2] } }),
    at(op, [11], [f(3, 4, 5)], { attributes: { axes: [-2], keepdims: 0 } }),
    at(op, [18], [f(3, 4, 5), i64([1, -1])]),
    at(op, [18], [f(3, 4, 5)], { attributes: { keepdims: 0 } }),
    at(op, [18], [f(3, 4, 5)], { attributes: { noop_with_empty_axes: 1 } }),
  ]),
  at("ReduceLogSum", [9], [positive(3, 4)], { attributes: { axes: [1] } }),
  at("ReduceLogSum", [18], [positive(3, 4), i64([0])]),
  at("ReduceSum", [13], [f(3, 4, 5), i64([1])], { attributes: { keepdims: 0 } }),
  ...["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"].map((op) =>
    at(
      op,
      [13],
      [ints([3, 4], 1, 9), ...(op === "ReduceSum" ? [i64([1])] : [])],
      op === "ReduceSum" ? {} : { attributes: { axes: [1] } },
    ),
  ),
  ...["ArgMax", "ArgMin"].flatMap((op) => [
    at(op, [9, 13], [f(3, 4, 5)], { attributes: { axis: 1 } }),
    at(op, [12], [given([2, 5, 5, 1, 1, 2], [2, 3])], { attributes: { axis: -1, keepdims: 0, select_last_index: 1 } }),
  ]),
  at("CumSum", [11, 14], [f(3, 4, 2), scalar(1, "int64")]),
  at("CumSum", [14], [f(3, 4), scalar(-1, "int64")], { attributes: { reverse: 1, exclusive: 1 } }),
  at("CumSum", [14], [ints([3, 4], 0, 9), scalar(0, "int64")]),
  at("TopK", [9], [f(3, 7)], { attributes: { k: 3 }, outputs: 2 }),
  at("TopK", [10, 11], [f(3, 7), i64([4])], { outputs: 2 }),
  at("TopK", [11], [f(3, 7, 2), i64([2])], { attributes: { axis: 1, largest: 0 }, outputs: 2 }),
  at("NonZero", [9, 13], [given([0, 1, 2, 0, 0, -3], [2, 3])]),
];

const microsoft = (op: string, inputs: (Numbers | null)[], rest: Rest = {}): Case =>
  at(op, [17], inputs, { domain: "com.microsoft", ...rest });
const others: Case[] = [
  microsoft("SkipLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)], {
    attributes: { epsilon: fl(1e-5) },
  }),
  microsoft("SkipLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8)], { attributes: { epsilon: fl(1e-5) } }),
  microsoft("SkipSimplifiedLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8)], { attributes: { epsilon: fl(1e-5) } }),
  microsoft("Gelu", [f(3, 5)]),
  microsoft("BiasGelu", [f(3, 5), f(5)]),
  microsoft("FastGelu", [f(3, 5), f(5)]),
  microsoft("QuickGelu", [f(3, 5)]),
  microsoft("FusedMatMul", [f(2, 4, 3), f(5, 4)], { attributes: { transA: 1, transB: 1, alpha: fl(0.5) } }),
];

/** Every operator that is computed, at the versions in which its form changed. */
export const cases: readonly Case[] = [
  ...[
    norms,
    convolutions,
    attentions,
    pools,
    elementwise,
    activations,
    reductions,
    movements,
    indexing,
    made,
    others,
  ].flat(),
];
