import { create } from "@bufbuild/protobuf";
import type { NumberArray } from "../../base/dtype.js";
import { damaged, elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import { type Tensor as TensorProto, TensorSchema } from "./proto/onnx_pb.js";

/** ONNX's numbers of the element types that are read and written. */
export const elementNumbers: Readonly<Record<ElementName, number>> = {
  ...{ float32: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, bool: 9, float16: 10, float64: 11 },
  ...{ uint32: 12, uint64: 13, bfloat16: 16 },
};

const namesByNumber = new Map(Object.entries(elementNumbers).map(([name, n]) => [n, name as ElementName]));

/** What errors call the types that are not read. */
const otherTypes: Readonly<Record<number, string>> = {
  ...{ 0: "undefined", 8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn", 18: "float8e4m3fnuz" },
  ...{ 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0" },
};

/** A tensor of a file with its numbers: see `wideTypes` for those of 32 bits and more, the others as elements.ts has them. */
export interface OnnxTensor {
  readonly shape: readonly number[];
  readonly type: ElementName;
  readonly data: NumberArray;
}

/**
 * Whole numbers that do not fit into int32 are held as float64, exact up to 2^53. Beyond 2^62 files mean "without end" (the ends of a
 * Slice, also -2^63 + 1): such numbers become -2^63 and 2^63. What lies between is refused.
 */
export const wideTypes: ReadonlySet<ElementName> = new Set<ElementName>(["int64", "uint64", "uint32"]);

/** Bytes of another file, named by `external_data`; length null means up to its end. */
export type ExternalBytes = (location: string, offset: number, length: number | null) => Uint8Array;

/** A type by ONNX's number. Throws FormatError for one that is not read, or that does not exist. */
export function elementNameOf(number: number, file: string, at: string): ElementName {
  const name = namesByNumber.get(number);
  if (name) return name;
  const known = [...namesByNumber.values()].join(", ");
  const got = `${otherTypes[number] ?? "unknown"} (${number})`;
  throw damaged(file, at, { rule: `Element types that are read are ${known}`, got });
}

/**
 * The numbers of a tensor in an ONNX file. Throws FormatError, naming the tensor, for a shape that its data does not fill, data in
 * more than one place or in the field of another type, and whole numbers beyond what `wideTypes` says.
 */
export function readTensor(proto: TensorProto, file: string, at: string, external?: ExternalBytes): OnnxTensor {
  const type = elementNameOf(proto.dataType, file, at);
  const shape = proto.dims.map(Number);
  const fields = typedFields.filter(({ name }) => proto[name].length > 0);
  const elsewhere = proto.dataLocation === 1;
  const places = fields.length + (proto.rawData === undefined ? 0 : 1) + (elsewhere ? 1 : 0);
  if (places > 1 || (proto.dataLocation !== 0 && !elsewhere)) {
    const got = elsewhere
      ? "data both here and in another file"
      : `${places} places, data_location ${proto.dataLocation}`;
    throw damaged(file, at, { rule: "A tensor's data stands in one place", got });
  }
  if (elsewhere || proto.rawData !== undefined) {
    const bytes = elsewhere ? externalBytes(proto, shape, type, file, at, external) : proto.rawData!;
    const size = elementTypes[type].bytes;
    checkCount(shape, bytes.length / size, file, at);
    return { shape, type, data: decode(bytes, type, file, at) };
  }
  const field = fields[0] ?? typedFields.find(({ types }) => types.includes(type))!;
  if (!field.types.includes(type)) {
    throw damaged(file, at, { rule: `${field.name} holds ${field.types.join(", ")}`, got: type });
  }
  const values = proto[field.name];
  checkCount(shape, values.length, file, at);
  return { shape, type, data: field.read(values as never, type, file, at) };
}

function checkCount(shape: readonly number[], count: number, file: string, at: string): void {
  const needed = elementsWithin(shape, Math.floor(count), file, at);
  if (needed === count) return;
  const rule = `A tensor of shape [${shape.join(", ")}] holds ${needed} elements`;
  throw damaged(file, at, { rule, got: String(count) });
}

function externalBytes(
  proto: TensorProto,
  shape: readonly number[],
  type: ElementName,
  file: string,
  at: string,
  external: ExternalBytes | undefined,
): Uint8Array {
  const entries = new Map(proto.externalData.map(({ key, value }) => [key, value]));
  const location = entries.get("location");
  if (!location || entries.size !== proto.externalData.length) {
    const rule = "Data in another file has one location, and each key once";
    throw damaged(file, at, { rule, got: proto.externalData.map(({ key }) => key).join(", ") || "no entries" });
  }
  if (!external) {
    throw damaged(file, at, {
      rule: "A tensor's data stands in the file itself here",
      got: `data in ${JSON.stringify(location)}`,
    });
  }
  const place = (key: string): number | null => {
    const text = entries.get(key);
    if (text === undefined) return null;
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
    throw damaged(file, at, { rule: `${key} of external data is a whole number from 0 on`, got: JSON.stringify(text) });
  };
  const length = place("length");
  const needed = elementsWithin(shape, Number.MAX_SAFE_INTEGER / 8, file, at) * elementTypes[type].bytes;
  if (length !== null && length !== needed) {
    throw damaged(file, at, {
      rule: `A tensor of shape [${shape.join(", ")}] has ${needed} bytes`,
      got: `a length of ${length}`,
    });
  }
  return external(location, place("offset") ?? 0, needed);
}

type Wide = BigInt64Array | BigUint64Array | Uint32Array;
const wideArrays = { int64: BigInt64Array, uint64: BigUint64Array, uint32: Uint32Array };
type WideName = keyof typeof wideArrays;
const isWide = (type: ElementName): type is WideName => wideTypes.has(type);

function decode(bytes: Uint8Array, type: ElementName, file: string, at: string): NumberArray {
  if (!isWide(type)) return elementTypes[type].decode(bytes, file, at);
  return exactNumbers(new wideArrays[type](new Uint8Array(bytes).buffer), file, at);
}

const END = 2 ** 62;

/** Whether a number read from a file stands for itself, or for no end. */
export const isExact = (value: number): boolean => Number.isSafeInteger(value) || Math.abs(value) >= END;

function exactNumbers(values: Wide | readonly bigint[], file: string, at: string): Float64Array {
  const numbers = new Float64Array(values.length);
  for (let i = 0; i < numbers.length; i++) {
    const value = values[i]!;
    const number = Number(value);
    numbers[i] = Math.abs(number) >= END ? Math.sign(number) * 2 * END : number;
    if (isExact(number)) continue;
    throw damaged(file, at, { rule: "Whole numbers are read up to 2^53", got: `${value} at place ${i}` });
  }
  return numbers;
}

interface TypedField {
  readonly name: "floatData" | "doubleData" | "int32Data" | "int64Data" | "uint64Data";
  readonly types: readonly ElementName[];
  readonly read: (values: never, type: ElementName, file: string, at: string) => NumberArray;
}

/** Fields of the format that hold numbers one by one, and what each may hold. */
const typedFields: readonly TypedField[] = [
  { name: "floatData", types: ["float32"], read: (values: readonly number[]) => Float32Array.from(values) },
  { name: "doubleData", types: ["float64"], read: (values: readonly number[]) => Float64Array.from(values) },
  {
    name: "int32Data",
    types: ["int32", "int16", "int8", "uint16", "uint8", "bool", "float16", "bfloat16"],
    read: (values: readonly number[], type, file, at) => narrow(values, type, file, at),
  },
  {
    name: "int64Data",
    types: ["int64"],
    read: (values: readonly bigint[], _t, file, at) => exactNumbers(values, file, at),
  },
  {
    name: "uint64Data",
    types: ["uint64", "uint32"],
    read: (values: readonly bigint[], _t, file, at) => exactNumbers(values, file, at),
  },
];

const bitTypes: Partial<Record<ElementName, ElementName>> = { float16: "uint16", bfloat16: "uint16" };

/** Numbers of fewer bits; those of the short floats are their bits. */
function narrow(values: readonly number[], type: ElementName, file: string, at: string): NumberArray {
  const bits = bitTypes[type] ?? type;
  const bytes = elementTypes[bits].encode(values);
  const back = elementTypes[bits].decode(bytes, file, at);
  const wrong = values.findIndex((v, i) => v !== back[i]);
  if (wrong >= 0) {
    throw damaged(file, at, { rule: `Numbers are of type ${bits}`, got: `${values[wrong]} at place ${wrong}` });
  }
  return bits === type ? back : elementTypes[type].decode(bytes, file, at);
}

/**
 * A tensor for a file, its numbers as little-endian bytes. Numbers are converted to `type` as elements.ts does it: whole numbers for
 * whole types.
 */
export function tensorProto(
  name: string,
  {
    shape,
    type,
    data,
  }: { readonly shape: readonly number[]; readonly type: ElementName; readonly data: ArrayLike<number> },
): TensorProto {
  return create(TensorSchema, {
    name,
    dims: shape.map(BigInt),
    dataType: elementNumbers[type],
    rawData: elementTypes[type].encode(data) as Uint8Array<ArrayBuffer>,
  });
}
