import { damaged } from "../damage.js";
import {
  type Attribute,
  AttributeType,
  type Graph,
  type SparseTensor,
  type Tensor as TensorProto,
} from "./proto/onnx_pb.js";
import { isExact } from "./tensor_proto.js";

export type AttributeValue = number | string | number[] | TensorProto | SparseTensor | Graph | undefined;
export type Attributes = ReadonlyMap<string, AttributeValue>;

type Kind = "int" | "float" | "text" | "ints" | "floats" | "tensor" | "sparse" | "graph" | "texts";

/** An attribute that an operator takes. */
export interface AttributeSpec {
  readonly kind: Kind;
  /** Its value where a node has none; without one it may be missing. */
  readonly fallback?: number | string | readonly number[];
  readonly required?: true;
  /** The first opset that has it. */
  readonly since?: number;
}

const spec =
  (kind: Kind) =>
  (fallback?: AttributeSpec["fallback"], more: { since?: number } = {}): AttributeSpec => ({
    kind,
    ...(fallback === undefined ? {} : { fallback }),
    ...more,
  });

export const int = spec("int");
export const float = spec("float");
export const text = spec("text");
export const ints = spec("ints");
export const floats = spec("floats");
export const needed = (kind: Kind): AttributeSpec => ({ kind, required: true });
export const optional = (kind: Kind, more: { since?: number } = {}): AttributeSpec => ({ kind, ...more });

interface Reading {
  readonly type: AttributeType;
  /** Whether the attribute's field for this kind is filled, where it does not say its type. */
  readonly filled: (a: Attribute) => boolean;
  readonly read: (a: Attribute) => AttributeValue;
}

const decoder = new TextDecoder();

const readings: Readonly<Record<Kind, Reading>> = {
  int: { type: AttributeType.INT, filled: (a) => a.i !== undefined, read: (a) => Number(a.i ?? 0n) },
  float: { type: AttributeType.FLOAT, filled: (a) => a.f !== undefined, read: (a) => a.f ?? 0 },
  text: { type: AttributeType.STRING, filled: (a) => a.s !== undefined, read: (a) => decoder.decode(a.s) },
  ints: { type: AttributeType.INTS, filled: (a) => a.ints.length > 0, read: (a) => a.ints.map(Number) },
  floats: { type: AttributeType.FLOATS, filled: (a) => a.floats.length > 0, read: (a) => a.floats },
  tensor: { type: AttributeType.TENSOR, filled: (a) => a.t !== undefined, read: (a) => a.t },
  sparse: {
    type: AttributeType.SPARSE_TENSOR,
    filled: (a) => a.sparseTensor !== undefined,
    read: (a) => a.sparseTensor,
  },
  graph: { type: AttributeType.GRAPH, filled: (a) => a.g !== undefined, read: (a) => a.g },
  texts: { type: AttributeType.STRINGS, filled: (a) => a.strings.length > 0, read: () => undefined },
};

/**
 * A node's attributes as its operator takes them, defaults filled in, also of those that came later. Throws FormatError for one that it does not have at this
 * version, that comes twice, is of another type, or is missing.
 */
export function readAttributes(
  given: readonly Attribute[],
  specs: Readonly<Record<string, AttributeSpec>>,
  opset: number,
  file: string,
  at: string,
): Attributes {
  const byName = new Map(given.map((a) => [a.name, a]));
  if (byName.size !== given.length) {
    const got = given.map((a) => a.name).join(", ");
    throw damaged(file, at, { rule: "A node names each attribute once", got });
  }
  const result = new Map<string, AttributeValue>();
  const known = new Map(Object.entries(specs).filter(([, { since = 1 }]) => since <= opset));
  for (const name of byName.keys()) {
    if (known.has(name)) continue;
    const names = [...known.keys()].join(", ") || "none";
    throw damaged(file, at, { rule: `The attributes of this operator at opset ${opset} are: ${names}`, got: name });
  }
  for (const [name, { kind, fallback, required }] of Object.entries(specs)) {
    const attribute = byName.get(name);
    if (attribute) result.set(name, readOne(attribute, kind, file, at));
    else if (required && known.has(name))
      throw damaged(file, at, { rule: `The attribute ${name} is needed`, got: "none" });
    else if (fallback !== undefined) result.set(name, Array.isArray(fallback) ? [...fallback] : (fallback as number));
  }
  return result;
}

function readOne(attribute: Attribute, kind: Kind, file: string, at: string): AttributeValue {
  const { type, filled, read } = readings[kind];
  const stated = attribute.type as number;
  const value = stated === type || (stated === 0 && filled(attribute)) ? read(attribute) : undefined;
  const numbers = typeof value === "number" ? [value] : Array.isArray(value) ? value : [];
  const whole = kind === "int" || kind === "ints";
  if (value !== undefined && !(whole && !numbers.every(isExact))) {
    return value;
  }
  const got = value === undefined ? `type ${stated}` : String(numbers);
  throw damaged(file, at, { rule: `The attribute ${attribute.name} is of type ${kind}`, got });
}
