import { damaged, elementsWithin } from "../damage.js";
import type { ElementName } from "../elements.js";

/** How a weight's numbers are stored: as they are, as halves, or as small whole numbers q that stand for q * scale + min. */
export interface Quantization {
  readonly type: "uint8" | "uint16" | "float16";
  readonly scale: number;
  readonly min: number;
}

/** A weight as model.json announces it. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  /** Null for texts and complex numbers, which are passed over. */
  readonly type: ElementName | null;
  readonly dtype: string;
  /** Of one element in the shards; null for texts, each of which has its length before it. */
  readonly bytes: number | null;
  readonly quantization: Quantization | null;
}

/** Weights that lie one after the other in the shards at these paths, taken as one. */
export interface WeightGroup {
  readonly paths: readonly string[];
  readonly weights: readonly Weight[];
}

/** What TF.js's converter and its layers write, and what their types are here. */
const dtypes = new Map<string, { readonly type: ElementName | null; readonly bytes: number | null }>([
  ["float32", { type: "float32", bytes: 4 }],
  ["float16", { type: "float16", bytes: 2 }],
  ["int32", { type: "int32", bytes: 4 }],
  ["uint16", { type: "uint16", bytes: 2 }],
  ["uint8", { type: "uint8", bytes: 1 }],
  ["bool", { type: "bool", bytes: 1 }],
  ["complex64", { type: null, bytes: 8 }],
  ["string", { type: null, bytes: null }],
]);

const storedBytes = new Map([
  ["uint8", 1],
  ["uint16", 2],
  ["float16", 2],
]);

/** No format and no model has more axes. */
const MOST_AXES = 64;

type Fields = Readonly<Record<string, unknown>>;
const fieldsOf = (value: unknown): Fields | null =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;

/**
 * The weights of a parsed model.json. Throws FormatError unless it is of the form that TensorFlow.js documents for
 * `weightsManifest`: groups of paths and weights, each weight with a name of its own, a shape and a type.
 */
export function readManifest(json: unknown, file: string): WeightGroup[] {
  const groups = fieldsOf(json)?.weightsManifest;
  if (!Array.isArray(groups)) {
    const rule = "The model.json of TensorFlow.js has a list weightsManifest";
    throw damaged(file, "weightsManifest", { rule, got: typeof groups });
  }
  const names = new Set<string>();
  return groups.map((given, i) => {
    const at = `weightsManifest[${i}]`;
    const group = fieldsOf(given);
    const paths = group?.paths;
    if (!Array.isArray(paths) || !paths.every((path) => typeof path === "string") || !Array.isArray(group?.weights)) {
      throw damaged(file, at, { rule: "A group has a list of paths and a list of weights", got: "something else" });
    }
    const weights = group.weights.map((weight, k) =>
      readWeight(fieldsOf(weight) ?? {}, names, file, `${at}.weights[${k}]`),
    );
    return { paths, weights };
  });
}

function readWeight(given: Fields, names: Set<string>, file: string, at: string): Weight {
  const { name, shape, dtype } = given;
  const wrong = (rule: string, got: unknown): Error =>
    damaged(file, at, { rule, got: JSON.stringify(got) ?? "nothing" });
  if (typeof name !== "string") throw wrong("A weight has a name", name);
  if (names.has(name)) throw wrong("Each name is there once", name.slice(0, 200));
  names.add(name);
  if (!Array.isArray(shape) || shape.length > MOST_AXES) throw wrong("A weight has a shape", typeof shape);
  elementsWithin(shape, Number.MAX_SAFE_INTEGER, file, at);
  const known = typeof dtype === "string" ? dtypes.get(dtype) : undefined;
  if (!known) throw wrong(`A weight's dtype is one of ${[...dtypes.keys()].join(", ")}`, dtype);
  const quantization =
    given.quantization === undefined ? null : readQuantization(given.quantization, dtype as string, wrong);
  const bytes = quantization ? storedBytes.get(quantization.type)! : known.bytes;
  return { name, shape, type: known.type, dtype: dtype as string, bytes, quantization };
}

function readQuantization(given: unknown, dtype: string, wrong: (rule: string, got: unknown) => Error): Quantization {
  const { dtype: type, scale, min } = fieldsOf(given) ?? {};
  if (typeof type !== "string" || !storedBytes.has(type)) {
    throw wrong("Quantized weights are stored as uint8, uint16 or float16", type);
  }
  const takes = type === "float16" ? ["float32"] : ["float32", "int32"];
  if (!takes.includes(dtype)) throw wrong(`Weights stored as ${type} stand for ${takes.join(" or ")}`, dtype);
  if (type === "float16") return { type, scale: 1, min: 0 };
  if (typeof scale !== "number" || typeof min !== "number")
    throw wrong("Quantized weights have numbers scale and min", given);
  return { type: type as "uint8" | "uint16", scale, min };
}
