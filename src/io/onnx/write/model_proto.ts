import { create, toBinary } from "@bufbuild/protobuf";
import { FormatError } from "../../../base/errors.js";
import {
  type Attribute,
  AttributeSchema,
  AttributeType,
  DimensionSchema,
  EntrySchema,
  GraphSchema,
  type Model as ModelProto,
  ModelSchema,
  NodeSchema,
  OperatorSetSchema,
  type Tensor as TensorProto,
  TensorSchema,
  TypeSchema,
  type ValueInfo,
  ValueInfoSchema,
} from "../proto/onnx_pb.js";
import { elementNumbers, tensorProto } from "../tensor_proto.js";
import type { Attributes, Graph, Node, Value } from "./graph.js";

/** Of Evenkeel, as package.json has it. */
export const VERSION = "0.1.0";

/** The IR version that came with each opset. Source: ONNX, docs/Versioning.md. */
const irVersions: Readonly<Record<number, number>> = {
  ...{ 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12 },
};
export const opsets: readonly number[] = Object.keys(irVersions).map(Number);

/** Protobuf messages end here. */
const LARGEST = 2 ** 31 - 1;
/** Fewer bytes stay in the model when tensors go to another file: shapes and axes are read before data is. */
const SMALL = 1024;

/** What of attributes is FLOAT; other numbers are INT. */
const floatAttributes = new Set(["alpha", "beta", "bias", "epsilon"]);

/** A model's bytes, and those of the other file where there is one. */
export interface Written {
  readonly model: Uint8Array;
  readonly external: readonly Uint8Array[];
}

/** An input or output: name, and each length as a number or under a name. */
export interface Port {
  readonly value: Value;
  readonly name: string;
  readonly lengths: readonly (number | string)[];
}

/** What a file says beside its graph. */
export interface ModelText {
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The name of the file for large tensors; null: all in one file. */
  readonly external: string | null;
}

/** The file of a graph. Throws FormatError if it would be larger than protobuf allows. */
export function writeModel(
  graph: Graph,
  inputs: readonly Port[],
  outputs: readonly Port[],
  { name, metadata, external }: ModelText,
): Written {
  const names = new Names(inputs, outputs);
  const constants = new Map<Value, TensorProto>();
  const pieces: Uint8Array[] = [];
  let offset = 0;
  const initializer = (value: Value): string => {
    const known = constants.get(value);
    if (known) return known.name;
    const { shape, type, constant } = value;
    const own = names.unused(value.name || constant!.stateName || "constant");
    const made = tensorProto(own, { shape, type, data: constant!.numbers() });
    const bytes = made.rawData!;
    if (external !== null && bytes.length >= SMALL) {
      pieces.push(bytes);
      constants.set(value, elsewhere(made, external, offset));
      offset += bytes.length;
    } else constants.set(value, made);
    return own;
  };
  const nameOf = (value: Value | null): string =>
    value === null ? "" : value.constant ? initializer(value) : names.of(value);
  const node = graph.nodes.map((n) => nodeProto(n, n.inputs.map(nameOf), names));
  const total = [...constants.values()].reduce((sum, t) => sum + (t.rawData?.length ?? 0), 0);
  if (total > LARGEST) {
    throw new FormatError({
      rule: "An ONNX file holds less than 2 GiB",
      got: `${total} bytes of weights`,
      fix: 'Give a path, and externalData: "weights.bin", a file beside it',
    });
  }
  const proto = create(ModelSchema, {
    irVersion: BigInt(irVersions[graph.opset]!),
    producerName: "evenkeel",
    producerVersion: VERSION,
    opsetImport: [create(OperatorSetSchema, { domain: "", version: BigInt(graph.opset) })],
    metadataProps: Object.entries(metadata).map(([key, value]) => create(EntrySchema, { key, value })),
    graph: create(GraphSchema, {
      name,
      node,
      initializer: [...constants.values()],
      input: inputs.map(valueInfo),
      output: outputs.map(valueInfo),
    }),
  });
  return { model: bytesOf(proto), external: pieces };
}

const bytesOf = (proto: ModelProto): Uint8Array => toBinary(ModelSchema, proto);

/** The same tensor with its bytes in another file. */
function elsewhere({ name, dims, dataType, rawData }: TensorProto, location: string, offset: number): TensorProto {
  const places = { location, offset: String(offset), length: String(rawData!.length) };
  const externalData = Object.entries(places).map(([key, value]) => create(EntrySchema, { key, value }));
  return create(TensorSchema, { name, dims, dataType, externalData, dataLocation: 1 });
}

/** Names of edges and nodes: each once, of inputs and outputs as they were asked for. */
class Names {
  readonly #taken = new Set<string>();
  readonly #named = new Map<Value, string>();

  constructor(inputs: readonly Port[], outputs: readonly Port[]) {
    for (const { value, name } of [...inputs, ...outputs]) {
      this.#named.set(value, name);
      this.#taken.add(name);
    }
  }

  of(value: Value): string {
    return this.#named.get(value)!;
  }

  /** Names a result after its node, unless it is an output. */
  result(value: Value, node: string): string {
    const known = this.#named.get(value);
    if (known !== undefined) return known;
    const name = this.unused(`${node}_output`);
    this.#named.set(value, name);
    return name;
  }

  unused(wish: string): string {
    let name = wish;
    for (let i = 1; this.#taken.has(name); i++) name = `${wish}_${i}`;
    this.#taken.add(name);
    return name;
  }
}

function nodeProto({ op, output, attributes, path }: Node, input: string[], names: Names) {
  const name = names.unused(path ? `${path}/${op}` : op);
  return create(NodeSchema, {
    name,
    opType: op,
    input,
    output: [names.result(output, name)],
    attribute: attributeProtos(attributes),
  });
}

const attributeProtos = (attributes: Attributes): Attribute[] =>
  Object.entries(attributes).map(([name, value]) => create(AttributeSchema, { name, ...attributeValue(name, value) }));

function attributeValue(name: string, value: Attributes[string]) {
  if (typeof value === "string") return { type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if (typeof value !== "number") return { type: AttributeType.INTS, ints: value.map(BigInt) };
  if (floatAttributes.has(name)) return { type: AttributeType.FLOAT, f: value };
  return { type: AttributeType.INT, i: BigInt(value) };
}

function valueInfo({ value, name, lengths }: Port): ValueInfo {
  const dim = lengths.map((d) =>
    create(DimensionSchema, {
      value: typeof d === "number" ? { case: "dimValue", value: BigInt(d) } : { case: "dimParam", value: d },
    }),
  );
  const type = create(TypeSchema, {
    value: { case: "tensorType", value: { elemType: elementNumbers[value.type], shape: { dim } } },
  });
  return create(ValueInfoSchema, { name, type });
}
