import type { NumberArray } from "../../base/dtype.js";
import { describeValue, OptionError } from "../../base/errors.js";
import { damaged, elementsWithin } from "../damage.js";
import { elementTypes } from "../elements.js";
import type { KerasVariable } from "../keras/keras_file.js";
import { layersByName, parseConfig } from "../keras/model_config.js";
import { tensorFile } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import { openSource } from "../source/open.js";
import { type Reading, readLater, readPart } from "../source/reading.js";
import type { FileTensor, TensorFile, TensorInfo } from "../tensor_file.js";
import { readManifest, type Weight, type WeightGroup } from "./manifest.js";
import { concatenated, type OpenShard, shardsBelow, shardsBeside } from "./shards.js";

/** A model of TensorFlow.js in memory. */
export interface TfjsModel {
  /** What model.json holds: parsed, or its text. */
  readonly modelJson: object | string;
  /** All shards, one after the other. */
  readonly weights: Uint8Array | ArrayBuffer;
}

export interface TfjsFile extends TensorFile {
  readonly format: "tfjs";
  /** `modelTopology` of model.json: a configuration as Keras writes it, or a graph. Null when there is none. */
  readonly config: unknown;
  /** Of models of layers: what the names of weights, "conv2d_1/kernel", and the configuration say of them. */
  readonly variables: ReadonlyMap<string, KerasVariable>;
  /** Weights that are no numbers (texts, complex numbers), with the reason. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** A graph as JSON may be large; a text that is longer makes objects beyond any heap. */
const LONGEST_JSON = 2 ** 28;

interface PlacedWeight extends TensorInfo {
  readonly weight: Weight;
  readonly source: ByteSource;
  readonly from: number;
  readonly to: number;
}

/**
 * Opens a model of TensorFlow.js: a model.json by its path or URL, with the shards that it names in its folder, or both from memory.
 * Weights are read when they are asked for; quantized ones are float32 or int32 again, as TF.js makes them. Close it
 * afterwards. Throws FormatError for a file that is not of this kind, damaged, or names files elsewhere.
 */
export async function openTfjs(input: string | URL | TfjsModel): Promise<TfjsFile> {
  if (typeof input === "string" || input instanceof URL) {
    const source = await openSource(input, { whole: true });
    try {
      const text = decodeText(await source.read(0, Math.min(source.size, LONGEST_JSON)), source);
      const onServer = input instanceof URL && input.protocol !== "file:";
      return await openModel(text, source.name, onServer ? shardsBelow(input) : shardsBeside(source.name));
    } finally {
      source.close();
    }
  }
  const { modelJson, weights } = (input ?? {}) as Partial<TfjsModel>;
  if (modelJson === undefined || !(weights instanceof Uint8Array || weights instanceof ArrayBuffer)) {
    throw new OptionError({
      rule: "A TensorFlow.js model is a path or URL of model.json, or { modelJson, weights }",
      got: describeValue(input),
    });
  }
  const all = await openSource(weights);
  // The shards are there as one, whatever the paths are called.
  let given = false;
  return openModel(modelJson, "modelJson", () => {
    if (given) return { ...all, size: 0 };
    given = true;
    return all;
  });
}

function decodeText(bytes: Uint8Array, { name, size }: ByteSource): string {
  if (size <= LONGEST_JSON) return new TextDecoder().decode(new Uint8Array(bytes));
  throw damaged(name, LONGEST_JSON, { rule: `model.json has at most ${LONGEST_JSON} bytes`, got: `${size}` });
}

async function openModel(given: object | string, file: string, openShard: OpenShard): Promise<TfjsFile> {
  const json = typeof given === "string" ? parseConfig(given, file, "model.json") : given;
  const groups = readManifest(json, file);
  const sources: ByteSource[] = [];
  const close = (): void => {
    for (const source of sources) source.close();
  };
  try {
    const tensors = new Map<string, PlacedWeight>();
    const skipped = new Map<string, string>();
    for (const group of groups) {
      const shards: ByteSource[] = [];
      for (const path of group.paths) {
        const shard = await openShard(path);
        sources.push(shard);
        shards.push(shard);
      }
      await readLater(placeWeights(group, concatenated(shards, file), tensors, skipped));
    }
    function* read(name: string): Reading<FileTensor> {
      const { shape, type, weight, source, from, to } = tensors.get(name)!;
      const bytes = yield* readPart(source, from, to);
      return { shape, type, data: decode(weight, bytes, file) };
    }
    const model = json as Readonly<Record<string, unknown>>;
    const config = model.modelTopology ?? null;
    const texts = ["format", "generatedBy", "convertedBy"].flatMap((name): [string, string][] => {
      const value = model[name];
      return typeof value === "string" ? [[name, value]] : [];
    });
    const base = tensorFile({ format: "tfjs", tensors: infosOf(tensors), metadata: new Map(texts), read }, file, close);
    return { ...base, format: "tfjs", config, variables: variablesOf(tensors.keys(), config), skipped };
  } catch (error) {
    close();
    throw error;
  }
}

const infosOf = (placed: ReadonlyMap<string, PlacedWeight>): Map<string, TensorInfo> =>
  new Map([...placed].map(([name, { shape, type }]) => [name, { shape, type }]));

/** Weights lie one after the other, without holes, up to the end. */
function* placeWeights(
  { weights }: WeightGroup,
  source: ByteSource,
  tensors: Map<string, PlacedWeight>,
  skipped: Map<string, string>,
): Reading<void> {
  let at = 0;
  for (const weight of weights) {
    const { name, shape, type, dtype, bytes } = weight;
    const where = `weight ${JSON.stringify(name)}`;
    const from = at;
    const count = elementsWithin(shape, Math.floor((source.size - at) / (bytes ?? TEXT_LENGTH)), source.name, where);
    if (bytes !== null) at += count * bytes;
    else {
      // Each text has its length before it.
      for (let i = 0; i < count; i++) {
        const length = yield* readPart(source, at, at + TEXT_LENGTH);
        at += TEXT_LENGTH + new DataView(length.buffer, length.byteOffset).getUint32(0, true);
      }
      if (at > source.size)
        throw damaged(source.name, where, { rule: "Texts lie within the shards", got: "longer ones" });
    }
    if (type === null) skipped.set(name, `no numbers but ${dtype === "string" ? "texts" : "complex ones"}`);
    else tensors.set(name, { shape, type, weight, source, from, to: at });
  }
  if (at === source.size) return;
  const rule = "The shards of a group hold its weights and nothing else";
  throw damaged(source.name, `byte ${at} of the shards`, { rule, got: `${source.size - at} bytes more` });
}

const TEXT_LENGTH = 4;

function decode({ name, type, quantization }: Weight, bytes: Uint8Array, file: string): NumberArray {
  const at = `weight ${JSON.stringify(name)}`;
  const stored = elementTypes[quantization?.type ?? type!].decode(bytes, file, at);
  if (quantization === null || quantization.type === "float16") return stored;
  const { scale, min } = quantization;
  // Computed in double precision and rounded once, as TF.js does.
  if (type === "int32") return Int32Array.from(stored, (q) => Math.round(q * scale + min));
  return Float32Array.from(stored, (q) => q * scale + min);
}

/** Layers by the names of their weights, "layer/kernel". A converted model has the configuration one level deeper. */
function variablesOf(names: Iterable<string>, topology: unknown): Map<string, KerasVariable> {
  const model = (topology as { model_config?: unknown } | null)?.model_config ?? topology;
  const layers = layersByName(model);
  const variables = new Map<string, KerasVariable>();
  if (layers.size === 0) return variables;
  const byOwnName = new Map([...layers].map(([path, layer]) => [path.slice(path.lastIndexOf("/") + 1), layer]));
  for (const name of names) {
    const parts = name.split("/");
    const variable = parts.pop() ?? null;
    const layer = parts.join("/");
    const config = layers.get(layer) ?? byOwnName.get(parts[0] ?? "");
    if (parts.length > 0) variables.set(name, { layer, class: config?.class ?? null, variable });
  }
  return variables;
}
