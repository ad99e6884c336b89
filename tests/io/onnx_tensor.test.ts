import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { FormatError, Random } from "../../src/index.js";
import { type ElementName, elementTypes } from "../../src/io/elements.js";
import { TensorSchema } from "../../src/io/onnx/proto/onnx_pb.js";
import { elementNumbers, readTensor, tensorProto } from "../../src/io/onnx/tensor_proto.js";

const at = 'tensor "t"';
const read = (proto: Parameters<typeof readTensor>[0]) => readTensor(proto, "a file", at);
const made = (init: Parameters<typeof create<typeof TensorSchema>>[1]) => create(TensorSchema, init);

it("gives back numbers of every type after a way through the file's bytes", () => {
  const random = new Random(3);
  for (const type of Object.keys(elementNumbers) as ElementName[]) {
    const float = /float/.test(type);
    const data = Float64Array.from({ length: 15 }, () =>
      float ? Math.round(random.normal() * 64) / 64 : random.below(type === "bool" ? 2 : 100),
    );
    const proto = fromBinary(TensorSchema, toBinary(TensorSchema, tensorProto("t", { shape: [3, 5], type, data })));
    const got = read(proto);
    expect(got.shape).toEqual([3, 5]);
    expect(got.type).toBe(type);
    expect([...got.data]).toEqual([...data]);
    expect(proto.rawData!.length).toBe(15 * elementTypes[type].bytes);
  }
});

it("reads numbers from the fields of their types", () => {
  const value = (init: Parameters<typeof made>[0]) => [...read(made(init)).data];
  expect(value({ dims: [2n], dataType: 1, floatData: [0.5, -2] })).toEqual([0.5, -2]);
  expect(value({ dims: [2n], dataType: 11, doubleData: [0.1, 3] })).toEqual([0.1, 3]);
  expect(value({ dims: [2n], dataType: 3, int32Data: [-128, 127] })).toEqual([-128, 127]);
  expect(value({ dims: [2n], dataType: 9, int32Data: [1, 0] })).toEqual([1, 0]);
  expect(value({ dims: [2n], dataType: 10, int32Data: [0x3c00, 0xc000] })).toEqual([1, -2]);
  expect(value({ dims: [2n], dataType: 16, int32Data: [0x3f80, 0xc040] })).toEqual([1, -3]);
  expect(value({ dims: [2n], dataType: 7, int64Data: [2n ** 40n, -5n] })).toEqual([2 ** 40, -5]);
  expect(value({ dims: [1n], dataType: 12, uint64Data: [4294967295n] })).toEqual([4294967295]);
  expect(value({ dims: [0n, 3n], dataType: 1 })).toEqual([]);
});

it("keeps whole numbers exact, and the ends of int64 as ends", () => {
  const proto = (int64Data: bigint[]) => made({ dims: [BigInt(int64Data.length)], dataType: 7, int64Data });
  expect([...read(proto([2n ** 53n - 1n, 2n ** 63n - 1n, -(2n ** 63n) + 1n])).data]).toEqual([
    2 ** 53 - 1,
    2 ** 63,
    -(2 ** 63),
  ]);
  expect(() => read(proto([2n ** 53n + 1n]))).toThrow(
    /up to 2\^53; got 9007199254740993 at place 0 \(a file, tensor "t"\)/,
  );
});

it.each<[string, Parameters<typeof made>[0]]>([
  ["a shape that the data does not fill", { dims: [3n], dataType: 1, floatData: [1, 2] }],
  ["more data than the shape has", { dims: [1n], dataType: 1, floatData: [1, 2] }],
  ["bytes cut short", { dims: [2n], dataType: 1, rawData: new Uint8Array(7) }],
  ["a shape whose product overflows", { dims: [2n ** 40n, 2n ** 40n], dataType: 1, rawData: new Uint8Array(4) }],
  ["a negative length", { dims: [-1n], dataType: 1, floatData: [1] }],
  ["a length beyond int64's exact part", { dims: [2n ** 62n], dataType: 1 }],
  ["two places", { dims: [1n], dataType: 1, floatData: [1], rawData: new Uint8Array(4) }],
  ["another type's field", { dims: [1n], dataType: 1, doubleData: [1] }],
  ["a number beyond its type", { dims: [1n], dataType: 3, int32Data: [200] }],
  ["strings", { dims: [1n], dataType: 8, stringData: [new Uint8Array(1)] }],
  ["an unknown type", { dims: [1n], dataType: 99 }],
  [
    "data in another file",
    { dims: [1n], dataType: 1, dataLocation: 1, externalData: [{ key: "location", value: "x" }] },
  ],
  ["an unknown place of data", { dims: [1n], dataType: 1, dataLocation: 2, floatData: [1] }],
])("refuses %s", (_what, init) => {
  expect(() => read(made(init))).toThrow(FormatError);
});

it("asks for exactly the bytes of external data", () => {
  const bytes = elementTypes.float32.encode([1, 2, 3, 4]);
  const proto = (entries: Record<string, string>) =>
    made({
      dims: [2n],
      dataType: 1,
      dataLocation: 1,
      externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
    });
  const from = (entries: Record<string, string>) =>
    readTensor(proto(entries), "a file", at, (_location, offset, length) => bytes.subarray(offset, offset + length!));
  expect([...from({ location: "w", offset: "4", length: "8" }).data]).toEqual([2, 3]);
  expect([...from({ location: "w", offset: "8" }).data]).toEqual([3, 4]);
  for (const wrong of [{ offset: "-4" }, { offset: "1e2" }, { length: "12" }, { offset: "99999999999999999999" }]) {
    expect(() => from({ location: "w", ...wrong } as Record<string, string>)).toThrow(FormatError);
  }
  expect(() => from({ offset: "0" })).toThrow(FormatError);
});
