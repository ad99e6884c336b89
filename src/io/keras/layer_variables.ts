/** A variable of a layer, and the option of the layer without which it is not there. */
interface Variable {
  readonly name: string;
  readonly option?: string;
}

const of = (name: string, option?: string): Variable => (option === undefined ? { name } : { name, option });

const affine = [of("gamma", "scale"), of("beta", "center")];
const withBias = (...names: string[]): Variable[] => [...names.map((name) => of(name)), of("bias", "use_bias")];
const kernel = withBias("kernel");
const recurrent = withBias("kernel", "recurrent_kernel");
const separable = withBias("depthwise_kernel", "pointwise_kernel");

/** Variables by layer class, in the order in which Keras 3 numbers them: those that learn, in the order made, then the others. */
const variables = new Map<string, readonly Variable[]>([
  ...["Dense", "EinsumDense", "DepthwiseConv1D", "DepthwiseConv2D"].map((name) => [name, kernel] as const),
  ...["Conv1D", "Conv2D", "Conv3D"].map((name) => [name, kernel] as const),
  ...["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"].map((name) => [name, kernel] as const),
  ...["SeparableConv1D", "SeparableConv2D"].map((name) => [name, separable] as const),
  ...["SimpleRNNCell", "LSTMCell", "GRUCell"].map((name) => [name, recurrent] as const),
  ["BatchNormalization", [...affine, of("moving_mean"), of("moving_variance")]],
  ["LayerNormalization", affine],
  ["GroupNormalization", affine],
  ["RMSNormalization", [of("scale")]],
  ["SpectralNormalization", [of("vector_u")]],
  ["Normalization", [of("mean"), of("variance"), of("count")]],
  ["Embedding", [of("embeddings")]],
  ["PReLU", [of("alpha")]],
]);

/** Layers inside of layers that Keras makes itself, by the property that holds them. */
const parts = new Map<string, Readonly<Record<string, string>>>([
  ["SimpleRNN", { cell: "SimpleRNNCell" }],
  ["LSTM", { cell: "LSTMCell" }],
  ["GRU", { cell: "GRUCell" }],
  ...["MultiHeadAttention", "GroupQueryAttention"].map((name) => {
    const dense = "EinsumDense";
    return [name, { query_dense: dense, key_dense: dense, value_dense: dense, output_dense: dense }] as const;
  }),
]);

const classes = new Map([...variables.keys(), ...parts.keys()].map((name) => [toSnakeCase(name), name]));

/**
 * The names of a layer's variables, or null where they cannot be told: for an unknown class, and without the layer's options where
 * their number leaves more than one possibility.
 */
export function variableNames(layerClass: string, options: object | null, count: number): string[] | null {
  const known = variables.get(layerClass);
  if (!known) return null;
  const all = known.map((variable) => variable.name);
  if (options) {
    const given = options as Readonly<Record<string, unknown>>;
    // An RMS-scaling layer normalization has no beta, whatever `center` says.
    const there = known.filter(
      ({ name, option }) =>
        (option === undefined || given[option] !== false) && !(name === "beta" && given.rms_scaling === true),
    );
    return there.length === count ? there.map((variable) => variable.name) : null;
  }
  if (count === all.length) return all;
  const always = known.filter((variable) => variable.option === undefined).map((variable) => variable.name);
  return count === always.length ? always : null;
}

/** The class of a layer inside of another, by the property that holds it. */
export function partClass(layerClass: string, property: string): string | null {
  const known = parts.get(layerClass);
  return known && Object.hasOwn(known, property) ? known[property]! : null;
}

/** The class behind a name such as "conv2d_1", which Keras 3 makes from the class and a number. */
export const classOfName = (name: string): string | null => classes.get(name.replace(/_\d+$/, "")) ?? null;

/** "BatchNormalization" as "batch_normalization", and "Conv2DTranspose" as "conv2d_transpose", as Keras writes them. */
export function toSnakeCase(name: string): string {
  return name
    .replace(/\W+/g, "")
    .replace(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
