import { Random } from "../../src/index.js";
import type { AttributeInit, Numbers } from "./onnx_model.js";

/** One operator with inputs and attributes, at opsets whose meaning is the same. */
export interface Case {
  readonly op: string;
  readonly opsets: readonly number[];
  readonly inputs: readonly (Numbers | null)[];
  readonly attributes?: Readonly<Record<string, AttributeInit>>;
  readonly outputs?: number;
  readonly domain?: string;
  /** How far from the other runtime it may be where float32 leaves room: 1e-5 of the largest number unless given. */
  readonly within?: number;
}

const random = new Random(11);
const size = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);
const numbers = (type: Numbers["type"], shape: readonly number[], draw: () => number): Numbers => ({
  ...{ type, shape },
  data: Array.from({ length: size(shape) }, draw),
});

/** Normal numbers, as float32 holds them. */
const f = (...shape: number[]): Numbers => numbers("float32", shape, () => Math.fround(random.normal()));
/** Numbers between 0.2 and 2. */
const positive = (...shape: number[]): Numbers =>
  numbers("float32", shape, () => Math.fround(0.2 + 1.8 * random.uniform()));
const unit = (...shape: number[]): Numbers =>
  numbers("float32", shape, () => Math.fround(1.8 * random.uniform() - 0.9));
const given = (data: number[], shape = [data.length], type: Numbers["type"] = "float32"): Numbers => ({
  type,
  shape,
  data,
});
const i64 = (data: number[], shape = [data.length]): Numbers => given(data, shape, "int64");
const ints = (shape: number[], from: number, to: number, type: Numbers["type"] = "int64"): Numbers =>
  numbers(type, shape, () => from + random.below(to - from));
const bools = (...shape: number[]): Numbers => numbers("bool", shape, () => random.below(2));
const scalar = (v: number, type: Numbers["type"] = "float32"): Numbers => given([v], [], type);
const fl = (float: number | number[]) => ({ float });
const odd = (): Numbers =>
  given([Number.NaN, 0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1.5, -2.5, 0.5]);

type Rest = Omit<Case, "op" | "opsets" | "inputs">;
const at = (op: string, opsets: number[], inputs: (Numbers | null)[], rest: Rest = {}): Case => ({
  op,
  opsets,
  inputs,
  ...rest,
});

const unary = (names: string[], x: () => Numbers, opsets = [13]): Case[] => names.map((op) => at(op, opsets, [x()]));

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

const pools: Case[] = [
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

const linear = { mode: "linear" };
const resizes = (mode: string, more: Record<string, AttributeInit> = {}): Case[] =>
  ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"].flatMap((coordinate_transformation_mode) => [
    at("Resize", [11, 13, 18], [f(1, 2, 5, 4), given([], [0]), given([1, 1, 2, 1.5])], {
      attributes: { mode, coordinate_transformation_mode, ...more },
    }),
    at("Resize", [13], [f(1, 2, 5, 4), null, null, i64([1, 2, 3, 7])], {
      attributes: { mode, coordinate_transformation_mode, ...more },
    }),
  ]);

const movements: Case[] = [
  at("Reshape", [9, 14], [f(2, 3, 4), i64([0, -1])]),
  at("Reshape", [14], [f(0, 3), i64([3, 0])], { attributes: { allowzero: 1 } }),
  at("Reshape", [14], [ints([2, 3], 0, 9), i64([3, 2])]),
  at("Transpose", [9, 13], [f(2, 3, 4)]),
  at("Transpose", [13], [f(2, 3, 4)], { attributes: { perm: [1, 2, 0] } }),
  at("Transpose", [13], [ints([2, 3], 0, 9)]),
  at("Concat", [9, 13], [f(2, 3), f(2, 1), f(2, 2)], { attributes: { axis: 1 } }),
  at("Concat", [13], [ints([2, 3], 0, 9), ints([1, 3], 0, 9)], { attributes: { axis: -2 } }),
  at("Split", [9, 11], [f(6, 4)], { attributes: { split: [1, 2, 3] }, outputs: 3 }),
  at("Split", [13], [f(6, 4), i64([1, 3])], { attributes: { axis: 1 }, outputs: 2 }),
  at("Split", [18], [f(7, 4)], { attributes: { num_outputs: 3 }, outputs: 3 }),
  at("Split", [13], [ints([6], 0, 9)], { outputs: 2 }),
  at("Slice", [9], [f(5, 6, 3)], { attributes: { axes: [0, 1], starts: [1, -3], ends: [4, 1000] } }),
  at("Slice", [10, 13], [f(5, 6, 3), i64([1, -1]), i64([1000, -6]), i64([0, 1]), i64([2, -2])]),
  at("Slice", [13], [f(5, 6), i64([1]), i64([3])]),
  at("Slice", [13], [ints([5, 6], 0, 9), i64([-1]), i64([-1000]), i64([1]), i64([-1])]),
  at("Slice", [13], [f(5, 6), i64([4]), i64([2]), i64([0])]),
  at("Squeeze", [9, 11], [f(1, 3, 1)], { attributes: { axes: [0] } }),
  at("Squeeze", [13], [f(1, 3, 1), i64([-1])]),
  at("Squeeze", [13], [f(1, 3, 1)]),
  at("Unsqueeze", [9, 11], [f(3, 4)], { attributes: { axes: [0, 2] } }),
  at("Unsqueeze", [13], [f(3, 4), i64([-1, 0])]),
  at("Flatten", [9, 13], [f(2, 3, 4)]),
  at("Flatten", [13], [f(2, 3, 4)], { attributes: { axis: 0 } }),
  at("Flatten", [11], [f(2, 3, 4)], { attributes: { axis: -1 } }),
  at("Expand", [9, 13], [f(3, 1), i64([2, 1, 4])]),
  at("Expand", [13], [i64([1, 2]), i64([3, 2])]),
  at("Tile", [9, 13], [f(2, 3), i64([2, 1])]),
  at("Tile", [13], [f(2, 3), i64([1, 3])]),
  at("Pad", [9], [f(2, 3)], { attributes: { pads: [1, 0, 0, 2], value: fl(1.5) } }),
  at("Pad", [11, 13], [f(2, 3), i64([1, 0, 0, 2]), scalar(-1)]),
  at("Pad", [13], [f(3, 4), i64([2, 1, 1, 3])], { attributes: { mode: "reflect" } }),
  at("Pad", [13], [f(3, 4), i64([2, 1, 1, 3])], { attributes: { mode: "edge" } }),
  at("Pad", [19], [f(3, 4), i64([2, 1, 1, 3])], { attributes: { mode: "wrap" } }),
  at("Pad", [18], [f(3, 4), i64([1, 2]), scalar(0), i64([1])]),
  at("Pad", [13], [f(3, 4), i64([-1, 1, 0, -2])]),
  at("Pad", [13], [ints([3], 0, 9), i64([1, 2]), scalar(7, "int64")]),
  ...resizes("nearest"),
  ...resizes("linear"),
  ...["round_prefer_ceil", "floor", "ceil"].flatMap((nearest_mode) => resizes("nearest", { nearest_mode }).slice(0, 3)),
  at("Resize", [10], [f(1, 2, 3, 4), given([1, 1, 2, 3])]),
  at("Resize", [10], [f(1, 2, 3, 4), given([1, 1, 2, 1.5])], { attributes: linear }),
  at("Resize", [18], [f(1, 2, 3, 4), null, null, i64([7, 5])], {
    attributes: { axes: [2, 3], keep_aspect_ratio_policy: "not_larger" },
  }),
  at("Resize", [18], [f(1, 2, 3, 4), null, null, i64([7, 5])], {
    attributes: { axes: [2, 3], keep_aspect_ratio_policy: "not_smaller", ...linear },
  }),
  at("Resize", [19], [f(1, 2, 5, 4), null, given([1, 1, 1.3, 0.7])], {
    attributes: { coordinate_transformation_mode: "half_pixel_symmetric", ...linear },
  }),
  at("Upsample", [9], [f(1, 2, 3, 4), given([1, 1, 2, 3])]),
  at("Upsample", [9], [f(1, 2, 3, 4), given([1, 1, 2, 2])], { attributes: linear }),
  at("DepthToSpace", [9, 13], [f(2, 8, 2, 3)], { attributes: { blocksize: 2 } }),
  at("DepthToSpace", [11], [f(2, 8, 2, 3)], { attributes: { blocksize: 2, mode: "CRD" } }),
  at("SpaceToDepth", [9, 13], [f(2, 3, 4, 6)], { attributes: { blocksize: 2 } }),
  at("Trilu", [14], [f(2, 3, 4)]),
  at("Trilu", [14], [f(3, 4), scalar(1, "int64")], { attributes: { upper: 0 } }),
  at("Trilu", [14], [ints([3, 4], 1, 9), scalar(-1, "int64")]),
];

const indexing: Case[] = [
  at("Gather", [9, 13], [f(4, 5), i64([0, -1, 2, 2], [2, 2])]),
  at("Gather", [13], [f(4, 5, 2), scalar(1, "int64")], { attributes: { axis: 1 } }),
  at("Gather", [13], [i64([10, 20, 30]), i64([2, 0])]),
  at("GatherElements", [11, 13], [f(3, 4), ints([2, 4], -3, 3)]),
  at("GatherElements", [13], [f(3, 4), ints([3, 2], 0, 4)], { attributes: { axis: 1 } }),
  at("GatherND", [11, 13], [f(3, 4, 2), i64([0, 1, -1, 3], [2, 2])]),
  at("GatherND", [12], [f(3, 4, 2), ints([3, 1], 0, 4)], { attributes: { batch_dims: 1 } }),
  at("Scatter", [9], [f(3, 4), i64([1, 0, 2, 1], [1, 4]), f(1, 4)]),
  at("ScatterElements", [11, 16], [f(3, 4), i64([1, 0, 2, 1], [1, 4]), f(1, 4)]),
  at("ScatterElements", [16], [f(3, 4), ints([3, 2], 0, 4), f(3, 2)], { attributes: { axis: 1, reduction: "add" } }),
  at("ScatterElements", [16], [ints([4], 0, 9), i64([1, -1]), i64([50, 60])]),
  at("ScatterND", [11, 16], [f(4, 3), i64([2, 0], [2, 1]), f(2, 3)]),
  at("ScatterND", [16], [f(4, 3), i64([2, 2], [2, 1]), f(2, 3)], { attributes: { reduction: "add" } }),
  at("OneHot", [9, 11], [i64([1, -1, 5, 0]), scalar(4, "int64"), given([0.5, 2])]),
  at("OneHot", [11], [ints([2, 3], 0, 4), scalar(4, "int64"), i64([0, 1])], { attributes: { axis: 1 } }),
];

const made: Case[] = [
  at("Shape", [9, 13], [f(2, 3, 4)]),
  at("Shape", [15], [f(2, 3, 4)], { attributes: { start: 1, end: -1 } }),
  at("Size", [9], [f(2, 3, 4)]),
  at("Range", [11], [scalar(1), scalar(5), scalar(0.7)]),
  at("Range", [11], [scalar(10, "int64"), scalar(2, "int64"), scalar(-3, "int64")]),
  at("ConstantOfShape", [9], [i64([2, 3])]),
  at("ConstantOfShape", [9], [i64([2, 3])], { attributes: { value: i64([7]) } }),
  at("EyeLike", [9], [f(3, 4)], { attributes: { k: 1 } }),
  at("EyeLike", [9], [f(3, 4)], { attributes: { dtype: 7 } }),
  at("Constant", [9], [], { attributes: { value: f(2, 3) } }),
  at("Constant", [12], [], { attributes: { value_float: fl(0.5) } }),
  at("Constant", [12], [], { attributes: { value_floats: fl([0.5, 2]) } }),
  at("Constant", [12], [], { attributes: { value_int: 5 } }),
  at("Constant", [12], [], { attributes: { value_ints: [5, -6] } }),
  at("Cast", [9, 13, 19], [given([1.7, -1.7, 0, 300.2])], { attributes: { to: 7 } }),
  at("Cast", [13], [f(5)], { attributes: { to: 11 } }),
  at("Cast", [13], [given([0, -0.3, 2])], { attributes: { to: 9 } }),
  at("Cast", [13], [ints([5], -9, 9)], { attributes: { to: 1 } }),
  at("Cast", [13], [bools(5)], { attributes: { to: 6 } }),
  at("CastLike", [15], [ints([5], -9, 9), f(1)]),
  at("Identity", [9, 16], [f(2, 3)]),
  at("Identity", [13], [i64([1, 2])]),
  at("Dropout", [9, 10], [f(2, 3)], { attributes: { ratio: fl(0.3) } }),
  at("Dropout", [12, 13], [f(2, 3), scalar(0.3)], { outputs: 2 }),
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
  ...[norms, convolutions, pools, elementwise, activations, reductions, movements, indexing, made, others].flat(),
];
