import { Tensor } from "../../autograd/index.js";
import type { DType, NumberArray } from "../../base/dtype.js";
import { OptionError } from "../../base/errors.js";
import { numberOfElements } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { Conv1d, Conv2d, Conv3d } from "../../nn/conv.js";
import { ConvTranspose1d, ConvTranspose2d, ConvTranspose3d } from "../../nn/conv_transpose.js";
import { Embedding } from "../../nn/embedding.js";
import { Linear } from "../../nn/linear.js";
import { Module, type StateSource } from "../../nn/module.js";
import type { LayerKind } from "../../norm/tensor_names.js";
import type { ElementName } from "../elements.js";
import type { KerasFile } from "../keras/keras_file.js";
import type { FileTensor, TensorFile, TensorInfo } from "../tensor_file.js";
import type { Asked } from "./read_layers.js";

/** Named tensors: an open file, a state, or a table of numbers with shapes (and types, where a file is to be written). */
export type TensorSource = TensorFile | Readonly<Record<string, GivenTensor>> | ReadonlyMap<string, GivenTensor>;

/** `type` is what a file of it should hold; without it, what the numbers are held as. */
export type GivenTensor = (Exclude<StateSource, Tensor> & { readonly type?: ElementName }) | Tensor;

export interface NamedTensors {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** What kind of file it is; null for what is in memory. */
  readonly format: string | null;
  readonly metadata: ReadonlyMap<string, string>;
  /** What a file itself tells of its tensors' layers. */
  readonly variables?: KerasFile["variables"];
  readonly config?: unknown;
  read(name: string): Promise<FileTensor>;
}

const isFile = (source: object): source is TensorFile =>
  "tensors" in source && typeof (source as TensorFile).read === "function";

/** Names, shapes and types of whatever holds tensors. Throws OptionError for what does not. */
export function infosOf(source: Module | TensorSource): NamedTensors {
  if (source === null || typeof source !== "object") {
    throw new OptionError({ rule: "Tensors come from an open file, a state or a module", got: String(source) });
  }
  if (source instanceof Module) return scope(() => inMemory(Object.entries(source.stateDict())));
  if (isFile(source)) return source;
  return inMemory(source instanceof Map ? [...source] : Object.entries(source));
}

function inMemory(entries: readonly [string, GivenTensor][]): NamedTensors {
  const held = new Map(entries);
  const tensors = new Map(entries.map(([name, value]) => [name, infoOf(name, value)]));
  const read = async (name: string): Promise<FileTensor> => {
    const value = held.get(name)!;
    // The heap's memory may be another one once it has grown: what is kept is a copy.
    const data = value instanceof Tensor ? value.storage.view.slice() : value.data;
    return { ...tensors.get(name)!, data: ArrayBuffer.isView(data) ? (data as NumberArray) : Float64Array.from(data) };
  };
  return { tensors, format: null, metadata: new Map(), read };
}

function infoOf(name: string, value: GivenTensor): TensorInfo {
  if (value instanceof Tensor) return { shape: value.shape, type: value.dtype };
  const { shape, data, type } = value ?? {};
  if (!Array.isArray(shape) || data === undefined || data.length !== numberOfElements(shape)) {
    throw new OptionError({
      rule: "A tensor is given as shape and data, with as many numbers as the shape has places",
      got: `${name} with ${data?.length ?? "no"} numbers for [${Array.isArray(shape) ? shape.join(", ") : shape}]`,
    });
  }
  return { shape, type: type ?? typeOfArray(data) };
}

function typeOfArray(data: NumberArray | readonly number[]): DType & ElementName {
  if (data instanceof Float32Array) return "float32";
  return data instanceof Int32Array ? "int32" : "float64";
}

const kindsByClass: readonly (readonly [new (...args: never[]) => Module, LayerKind])[] = [
  ...[Conv1d, Conv2d, Conv3d].map((c) => [c, "conv"] as const),
  ...[ConvTranspose1d, ConvTranspose2d, ConvTranspose3d].map((c) => [c, "convTranspose"] as const),
  [Linear, "linear"],
  [Embedding, "embedding"],
];

/** Kinds by the classes of Keras, where a file tells them. */
const kerasKinds: readonly (readonly [RegExp, LayerKind])[] = [
  [/^SeparableConv/, "separable"],
  [/^DepthwiseConv/, "depthwise"],
  [/^Conv\dDTranspose$/, "convTranspose"],
  [/^Conv\dD$/, "conv"],
  [/^Dense$/, "linear"],
  [/^Embedding$/, "embedding"],
  [/^(Batch|Layer|Group)Normalization$/, "norm"],
  [/^RMSNormalization$/, "rmsNorm"],
];

/** What a Keras file says of its layers' kinds, by their paths. */
export function kindsInFile({ variables }: Pick<NamedTensors, "variables">): Map<string, Asked> {
  const kinds = new Map<string, Asked>();
  for (const { layer, class: name, variable } of variables?.values() ?? []) {
    const kind = kerasKinds.find(([pattern]) => name !== null && pattern.test(name))?.[1];
    if (kind && variable !== null) kinds.set(layer.replaceAll("/", "."), { kind, details: {} });
  }
  return kinds;
}

/** What a module knows of its layers and a file does not. */
export function moduleKinds(template: Module | TensorSource): Map<string, Asked> {
  const kinds = new Map<string, Asked>();
  if (!(template instanceof Module)) return kinds;
  for (const [path, module] of template.namedModules()) {
    const kind = kindsByClass.find(([Class]) => module instanceof Class)?.[1];
    if (kind) kinds.set(path, { kind, details: {} });
  }
  return kinds;
}
