/**
 * What frameworks call the tensors of a layer, by the layer's kind and PyTorch's name, which is ours. Keras's names are
 * TensorFlow.js's too. A dot leads into a layer inside of the layer.
 */
export interface TensorNames {
  readonly keras?: string;
  readonly flax?: string;
}

const bias = { keras: "bias", flax: "bias" } as const;
const weight = { keras: "kernel", flax: "kernel" } as const;

export const tensorNames = {
  linear: { weight, bias },
  conv: { weight, bias },
  convTranspose: { weight, bias },
  /** A convolution with as many groups as channels; Flax has no layer of its own for it. */
  depthwise: { weight: { keras: "depthwise_kernel", flax: "kernel" }, bias },
  /** In PyTorch two convolutions, one after the other. */
  separable: {
    "depthwise.weight": { keras: "depthwise_kernel", flax: "depthwise.kernel" },
    "pointwise.weight": { keras: "pointwise_kernel", flax: "pointwise.kernel" },
    "pointwise.bias": { keras: "bias", flax: "pointwise.bias" },
  },
  embedding: { weight: { keras: "embeddings", flax: "embedding" } },
  norm: {
    weight: { keras: "gamma", flax: "scale" },
    bias: { keras: "beta", flax: "bias" },
    running_mean: { keras: "moving_mean", flax: "mean" },
    running_var: { keras: "moving_variance", flax: "var" },
    /** Counted by PyTorch alone. */
    num_batches_tracked: {},
  },
  rmsNorm: { weight: { keras: "scale", flax: "scale" } },
  /** PyTorch packs the three input maps: in_proj_weight, in_proj_bias (src/io/convert/attention.ts). */
  attention: {
    "query.weight": { keras: "query.kernel", flax: "query.kernel" },
    "query.bias": { keras: "query.bias", flax: "query.bias" },
    "key.weight": { keras: "key.kernel", flax: "key.kernel" },
    "key.bias": { keras: "key.bias", flax: "key.bias" },
    "value.weight": { keras: "value.kernel", flax: "value.kernel" },
    "value.bias": { keras: "value.bias", flax: "value.bias" },
    "out_proj.weight": { keras: "attention_output.kernel", flax: "out.kernel" },
    "out_proj.bias": { keras: "attention_output.bias", flax: "out.bias" },
  },
} as const satisfies Record<string, Readonly<Record<string, TensorNames>>>;

export type LayerKind = keyof typeof tensorNames;

/**
 * The parts that a weight is computed from under weight and spectral normalization: torch.nn.utils.parametrize writes the
 * second of each, torch.nn.utils.weight_norm and spectral_norm, as this package, the first. `weight` stands for any weight's name.
 */
export const parametrizedNames = [
  ["weight_g", "parametrizations.weight.original0"],
  ["weight_v", "parametrizations.weight.original1"],
  ["weight_orig", "parametrizations.weight.original"],
  ["weight_u", "parametrizations.weight.0._u"],
  ["weight_v", "parametrizations.weight.0._v"],
] as const;
