import { create, toBinary } from "@bufbuild/protobuf";
import { type ElementName, elementTypes } from "../../src/io/elements.js";
import {
  type Attribute,
  AttributeSchema,
  AttributeType,
  FunctionSchema,
  type Graph,
  GraphSchema,
  type Model,
  ModelSchema,
  type Node,
  NodeSchema,
  type Tensor as TensorProto,
  ValueInfoSchema,
} from "../../src/io/onnx/proto/onnx_pb.js";
import { elementNumbers, tensorProto } from "../../src/io/onnx/tensor_proto.js";

/** Numbers with a type by ONNX's names. */
export interface Numbers {
  readonly type: ElementName;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export interface FloatAttribute {
  readonly float: number | readonly number[];
}
export type AttributeInit =
  | number
  | string
  | readonly number[]
  | FloatAttribute
  | Numbers
  | Graph
  | { readonly ref: string };

export interface NodeInit {
  readonly op: string;
  readonly inputs?: readonly string[];
  readonly outputs?: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeInit>>;
  readonly domain?: string;
  readonly name?: string;
}

export interface ValueInit {
  readonly type?: ElementName;
  readonly shape?: readonly (number | string)[];
}

export interface GraphInit {
  readonly nodes: readonly NodeInit[];
  readonly inputs?: Readonly<Record<string, ValueInit>>;
  readonly outputs?: readonly string[];
  readonly initializers?: Readonly<Record<string, Numbers>>;
}

export interface ModelInit extends GraphInit {
  readonly opset?: number;
  readonly domains?: Readonly<Record<string, number>>;
  readonly functions?: readonly (GraphInit & {
    name: string;
    domain: string;
    inputNames: string[];
    attributes?: string[];
  })[];
}

/** Whole attribute values are ints; floats are given as { float }. */
export function attribute(name: string, value: AttributeInit): Attribute {
  const make = (type: AttributeType, init: object): Attribute => create(AttributeSchema, { name, type, ...init });
  if (typeof value === "number") return make(AttributeType.INT, { i: BigInt(value) });
  if (typeof value === "string") return make(AttributeType.STRING, { s: new TextEncoder().encode(value) });
  if (Array.isArray(value)) return make(AttributeType.INTS, { ints: value.map(BigInt) });
  if ("float" in (value as object)) {
    const { float } = value as FloatAttribute;
    return typeof float === "number"
      ? make(AttributeType.FLOAT, { f: float })
      : make(AttributeType.FLOATS, { floats: [...float] });
  }
  if ("ref" in (value as object)) return make(AttributeType.UNDEFINED, { refAttrName: (value as { ref: string }).ref });
  if ("data" in (value as object)) return make(AttributeType.TENSOR, { t: tensorProto("", value as Numbers) });
  return make(AttributeType.GRAPH, { g: value as Graph });
}

export const node = ({ op, inputs = [], outputs = ["y"], attributes = {}, domain = "", name = "" }: NodeInit): Node =>
  create(NodeSchema, {
    ...{ opType: op, input: [...inputs], output: [...outputs], domain, name },
    attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
  });

const valueInfo = (name: string, { type = "float32", shape }: ValueInit) =>
  create(ValueInfoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: elementNumbers[type],
          ...(shape
            ? {
                shape: {
                  dim: shape.map((d) => ({
                    value:
                      typeof d === "number"
                        ? { case: "dimValue" as const, value: BigInt(d) }
                        : { case: "dimParam" as const, value: d },
                  })),
                },
              }
            : {}),
        },
      },
    },
  });

export function graph({ nodes, inputs = {}, outputs = ["y"], initializers = {} }: GraphInit): Graph {
  return create(GraphSchema, {
    name: "g",
    node: nodes.map(node),
    input: Object.entries(inputs).map(([name, value]) => valueInfo(name, value)),
    output: outputs.map((name) => ({ name })),
    initializer: Object.entries(initializers).map(([name, numbers]): TensorProto => tensorProto(name, numbers)),
  });
}

/** IR versions that came with the opsets: a runtime refuses newer ones than it knows. */
const irVersion = (opset: number): bigint =>
  opset < 11 ? 5n : opset < 15 ? 7n : opset < 19 ? 8n : opset < 21 ? 9n : 10n;

export function model(init: ModelInit): Model {
  const { opset = 17, domains = {}, functions = [] } = init;
  const opsets = [
    { domain: "", version: BigInt(opset) },
    ...Object.entries(domains).map(([domain, v]) => ({ domain, version: BigInt(v) })),
  ];
  return create(ModelSchema, {
    irVersion: irVersion(opset),
    opsetImport: opsets,
    graph: graph(init),
    functions: functions.map((f) =>
      create(FunctionSchema, {
        ...{
          name: f.name,
          domain: f.domain,
          input: f.inputNames,
          output: [...(f.outputs ?? ["y"])],
          attribute: f.attributes ?? [],
        },
        node: f.nodes.map(node),
        opsetImport: opsets,
      }),
    ),
  });
}

export const bytesOf = (m: Model): Uint8Array => toBinary(ModelSchema, m);

export const modelBytes = (init: ModelInit): Uint8Array => bytesOf(model(init));

export { elementTypes };
