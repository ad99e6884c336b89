import type { LayerKind } from "../../norm/tensor_names.js";
import { flipped, permuted, reshaped, type Value } from "./value.js";

/** How a family of frameworks names tensors and lays them out. TensorFlow.js is as Keras, Evenkeel as PyTorch. */
export type Dialect = "torch" | "keras" | "flax";

/** What is known of a layer beside its tensors' shapes. */
export interface Details {
  /** Heads of an attention layer: PyTorch's tensors do not say. */
  readonly heads?: number;
  /** Outputs for each channel of a depthwise convolution: PyTorch's tensors do not say. */
  readonly multiplier?: number;
  /** Flax's ConvTranspose(transpose_kernel=True), whose kernels are Keras's. */
  readonly transposeKernel?: boolean;
  /** A weight and bias of several axes end in the channels there and begin with them in PyTorch. */
  readonly moveChannels?: boolean;
  /** [C, ...positions] of what is flattened before a linear layer. */
  readonly flatten?: readonly number[];
}

interface Layout {
  /** From the framework's axes to PyTorch's, and back. */
  toTorch(v: Value, details: Details): Value;
  fromTorch(v: Value, details: Details): Value;
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

const asItIs: Layout = { toTorch: (v) => v, fromTorch: (v) => v };

/** [...kernel, b, a] and [a, b, ...kernel]. */
const kernelFirst: Layout = {
  toTorch: (v) => permuted(v, [v.shape.length - 1, v.shape.length - 2, ...range(0, v.shape.length - 2)]),
  fromTorch: (v) => permuted(v, [...range(2, v.shape.length), 1, 0]),
};

/**
 * [...kernel, in, out] and [in, out, ...kernel], turned about: Flax slides the kernel over the stretched input, PyTorch and Keras
 * take the gradient of a convolution, which slides it the other way round.
 */
const turnedKernel: Layout = {
  toTorch(v) {
    const rank = v.shape.length;
    return permuted(flipped(v, range(0, rank - 2)), [rank - 2, rank - 1, ...range(0, rank - 2)]);
  },
  fromTorch(v) {
    const rank = v.shape.length;
    return flipped(permuted(v, [...range(2, rank), 0, 1]), range(0, rank - 2));
  },
};

const flaxTransposed: Layout = {
  toTorch: (v, d) => (d.transposeKernel ? kernelFirst : turnedKernel).toTorch(v, d),
  fromTorch: (v, d) => (d.transposeKernel ? kernelFirst : turnedKernel).fromTorch(v, d),
};

/** [...kernel, C, m] and [C * m, 1, ...kernel]. */
const depthwise: Layout = {
  toTorch(v) {
    const rank = v.shape.length;
    const [channels, m] = v.shape.slice(rank - 2) as [number, number];
    const front = permuted(v, [rank - 2, rank - 1, ...range(0, rank - 2)]);
    return reshaped(front, [channels * m, 1, ...v.shape.slice(0, rank - 2)]);
  },
  fromTorch(v, { multiplier = 1 }) {
    const apart = reshaped(v, [v.shape[0]! / multiplier, multiplier, ...v.shape.slice(2)]);
    return permuted(apart, [...range(2, v.shape.length), 0, 1]);
  },
};

/** [in, out] and [out, in]; after a Flatten, `in` runs over [...positions, C] there and [C, ...positions] here. */
const linear: Layout = {
  toTorch(v, { flatten }) {
    const swapped = permuted(v, [1, 0]);
    if (!flatten) return swapped;
    const [channels, ...positions] = flatten as [number, ...number[]];
    const apart = reshaped(swapped, [swapped.shape[0]!, ...positions, channels]);
    const rank = apart.shape.length;
    return reshaped(permuted(apart, [0, rank - 1, ...range(1, rank - 1)]), swapped.shape);
  },
  fromTorch(v, { flatten }) {
    if (!flatten) return permuted(v, [1, 0]);
    const apart = reshaped(v, [v.shape[0]!, ...flatten]);
    const rank = apart.shape.length;
    return permuted(reshaped(permuted(apart, [0, ...range(2, rank), 1]), v.shape), [1, 0]);
  },
};

/** An affine of several axes. */
const affine: Layout = {
  toTorch: (v, d) =>
    d.moveChannels && v.shape.length > 1 ? permuted(v, [v.shape.length - 1, ...range(0, v.shape.length - 1)]) : v,
  fromTorch: (v, d) => (d.moveChannels && v.shape.length > 1 ? permuted(v, [...range(1, v.shape.length), 0]) : v),
};

/** [in, heads, size] and [heads * size, in]. */
const headsOut: Layout = {
  toTorch: (v) => permuted(reshaped(v, [v.shape[0]!, v.shape[1]! * v.shape[2]!]), [1, 0]),
  fromTorch: (v, { heads = 1 }) => reshaped(permuted(v, [1, 0]), [v.shape[1]!, heads, v.shape[0]! / heads]),
};

/** [heads, size, out] and [out, heads * size]. */
const headsIn: Layout = {
  toTorch: (v) => permuted(reshaped(v, [v.shape[0]! * v.shape[1]!, v.shape[2]!]), [1, 0]),
  fromTorch: (v, { heads = 1 }) => reshaped(permuted(v, [1, 0]), [heads, v.shape[1]! / heads, v.shape[0]!]),
};

/** [heads, size] and [heads * size]. */
const headsBias: Layout = {
  toTorch: (v) => reshaped(v, [v.shape[0]! * v.shape[1]!]),
  fromTorch: (v, { heads = 1 }) => reshaped(v, [heads, v.shape[0]! / heads]),
};

type Layouts = Readonly<Record<string, Layout | { readonly keras: Layout; readonly flax: Layout }>>;

/** What is not listed lies the same way everywhere. */
const layouts: Readonly<Record<LayerKind, Layouts>> = {
  linear: { weight: linear },
  conv: { weight: kernelFirst },
  convTranspose: { weight: { keras: kernelFirst, flax: flaxTransposed } },
  depthwise: { weight: { keras: depthwise, flax: kernelFirst } },
  separable: { "depthwise.weight": { keras: depthwise, flax: kernelFirst }, "pointwise.weight": kernelFirst },
  embedding: {},
  norm: { weight: affine, bias: affine },
  rmsNorm: { weight: affine },
  attention: {
    "query.weight": headsOut,
    "query.bias": headsBias,
    "key.weight": headsOut,
    "key.bias": headsBias,
    "value.weight": headsOut,
    "value.bias": headsBias,
    "out_proj.weight": headsIn,
  },
};

/** How one tensor of a layer lies in a dialect. */
export function layoutOf(kind: LayerKind, role: string, dialect: Dialect): Layout {
  const found = layouts[kind][role];
  if (dialect === "torch" || !found) return asItIs;
  return "toTorch" in found ? found : found[dialect];
}
