import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError, OptionError, scope, type Tensor, tensor } from "../../src/index.js";
import { loadSafetensors, openSafetensors, saveSafetensors, tensorOf } from "../../src/io/index.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file from its header's text and its numbers, as the format describes it. */
function file(header: string | object, data: Uint8Array | number = 0): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const numbers = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + text.length + numbers.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(numbers, 8 + text.length);
  return bytes;
}

const headerOf = (bytes: Uint8Array): string => {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return new TextDecoder().decode(bytes.subarray(8, 8 + length));
};
const bits = (t: Tensor): Buffer => Buffer.from(new Uint8Array(t.dataSync().buffer));

describe("safetensors", () => {
  it("writes the header as the reference does: by alignment, then by name, padded to 8 bytes", () => {
    const bytes = scope(() =>
      saveSafetensors(
        {
          "10": tensor([1, 2]),
          b: tensor([1], { dtype: "int32" }),
          "\u{1f600}": tensor(new Float64Array([3])),
          "\uff5e": tensor(new Float64Array([4])),
          h: tensor([[5, 6, 7]]),
          t: tensor([1, 0, 1], { dtype: "int32" }),
        },
        undefined,
        { metadata: { format: "pt" }, dtypes: { h: "float16", t: "bool" } },
      ),
    );
    const header = headerOf(bytes);
    expect(header.length % 8).toBe(4); // in UTF-8 it is 4 bytes longer
    expect(header.trimEnd()).toBe(
      '{"__metadata__":{"format":"pt"},"\uff5e":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},' +
        '"\u{1f600}":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},"10":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},' +
        '"b":{"dtype":"I32","shape":[1],"data_offsets":[24,28]},"h":{"dtype":"F16","shape":[1,3],"data_offsets":[28,34]},' +
        '"t":{"dtype":"BOOL","shape":[3],"data_offsets":[34,37]}}',
    );
    expect([...bytes.subarray(-9)]).toEqual([0x00, 0x45, 0x00, 0x46, 0x00, 0x47, 1, 0, 1]);
  });

  it("reads what a program of the format's description wrote: every type, rank and kind of name", async () => {
    const recorded = (name: string): string => fileURLToPath(new URL(`files/${name}.safetensors`, import.meta.url));
    const ramp = (shape: readonly number[], code: string): number[] =>
      Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => {
        const v = ((7 * i) % 23) - 11;
        if (code === "BOOL") return Number(v % 3 === 0);
        return (code.includes("F") ? v / 4 : code.startsWith("U") ? Math.abs(v) : v) + 0;
      });
    const values = (t: Tensor): number[] => [...t.dataSync()].map((v) => v + 0);
    const all = loadSafetensors(recorded("recorded"));
    const codes = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"];
    for (const code of codes) {
      expect([all[code]!.shape, values(all[code]!)], code).toEqual([[2, 3, 4], ramp([2, 3, 4], code)]);
      expect(all[code]!.dtype).toBe(code === "F64" ? "float64" : code.includes("F") ? "float32" : "int32");
    }
    for (let rank = 0; rank < 6; rank++) {
      const shape = [2, 3, 4, 5, 6].slice(0, rank);
      expect([all[`rank ${rank}`]!.shape, values(all[`rank ${rank}`]!)]).toEqual([shape, ramp(shape, "F32")]);
    }
    expect([all["empty 0"]!.shape, all["empty 1"]!.shape]).toEqual([[0], [3, 0, 2]]);
    for (const name of ["", "__proto__", "größe.中", 'a"b\\c\n']) {
      expect(values(Object.getOwnPropertyDescriptor(all, name)!.value), name).toEqual(ramp([2], "F32"));
    }
    expect(Object.keys(all)).toHaveLength(codes.length + 6 + 2 + 4);
    const file = await openSafetensors(recorded("recorded"));
    expect(Object.fromEntries(file.metadata)).toEqual({ format: "pt", note: "größe" });
    // What was read can be written again, each tensor as the type that it had.
    const again = new Map(
      await Promise.all([...file.tensors.keys()].map(async (n) => [n, await file.read(n)] as const)),
    );
    file.close();
    const second = await openSafetensors(saveSafetensors(again));
    for (const [name, { type, data }] of again) {
      expect(second.tensors.get(name)!.type).toBe(type);
      expect((await second.read(name)).data).toEqual(data);
    }

    const loose = loadSafetensors(recorded("recorded_loose"));
    const codesOf: Record<string, string> = { a: "U8", b: "F64", c: "F32" };
    for (const [name, t] of Object.entries(loose)) expect(values(t), name).toEqual(ramp(t.shape, codesOf[name]!));
    expect(loadSafetensors(recorded("recorded_empty"))).toEqual({});
  });

  it("gives back names, shapes and bits of any tensors", () => {
    let [files, tensors] = [0, 0];
    const numbers = {
      float32: (n: number) => fc.float32Array({ minLength: n, maxLength: n }),
      float64: (n: number) => fc.float64Array({ minLength: n, maxLength: n }),
      int32: (n: number) => fc.int32Array({ minLength: n, maxLength: n }),
    };
    const anyTensor = fc
      .tuple(
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }),
        fc.constantFrom("float32", "float64", "int32" as const),
      )
      .chain(([shape, dtype]) =>
        numbers[dtype as keyof typeof numbers](shape.reduce((n, d) => n * d, 1)).map((data) => ({ shape, data })),
      );
    const name = fc.oneof(fc.constantFrom("__proto__", "", "a.b", "constructor", "7"), fc.string({ unit: "grapheme" }));
    fc.assert(
      fc.property(fc.array(fc.tuple(name, anyTensor), { maxLength: 6 }), (entries) => {
        const given = new Map(entries.filter(([n]) => n !== "__metadata__"));
        files++;
        tensors += given.size;
        scope(() => {
          const loaded = loadSafetensors(saveSafetensors(given));
          expect(Object.keys(loaded).sort()).toEqual([...given.keys()].sort());
          for (const [n, { shape, data }] of given) {
            const t = Object.getOwnPropertyDescriptor(loaded, n)!.value as Tensor;
            expect(t.shape).toEqual(shape);
            expect(bits(t)).toEqual(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
          }
        });
      }),
      { numRuns: 300, seed: 6 },
    );
    console.info(`safetensors: ${files} files with ${tensors} tensors written and read back`);
  });

  it("applies dtype to tensors of its kind", () => {
    const state = { w: tensor([1.5, Infinity]), d: tensor(new Float64Array([2])), n: tensor([3], { dtype: "int32" }) };
    const types = (options: object): string[] =>
      [...headerOf(saveSafetensors(state, undefined, options)).matchAll(/"(\w)":{"dtype":"(\w+)"/g)]
        .map((m) => m[1]! + m[2])
        .sort();
    expect(types({})).toEqual(["dF64", "nI32", "wF32"]);
    expect(types({ dtype: "bfloat16" })).toEqual(["dBF16", "nI32", "wBF16"]);
    expect(types({ dtype: "int64" })).toEqual(["dF64", "nI64", "wF32"]);
    expect(types({ dtype: "float16", dtypes: { n: "float64", d: "int8" } })).toEqual(["dI8", "nF64", "wF16"]);
  });

  it("reads a file, bytes, a Blob, a Response and a promise of one alike", async () => {
    const path = join(folder, "small.safetensors");
    const size = saveSafetensors(
      {
        w: tensor([
          [1, 2],
          [3, 4],
        ]),
      },
      path,
      { metadata: { a: "b" } },
    );
    const bytes = saveSafetensors(
      {
        w: tensor([
          [1, 2],
          [3, 4],
        ]),
      },
      undefined,
      { metadata: { a: "b" } },
    );
    expect(size).toBe(bytes.length);
    expect(readdirSync(folder)).toEqual(["small.safetensors"]);
    const later = [
      new Blob([bytes as BlobPart]),
      new Response(bytes as BodyInit),
      Promise.resolve(new Response(bytes as BodyInit)),
    ];
    const all = [
      loadSafetensors(path),
      loadSafetensors(bytes),
      ...(await Promise.all(later.map((i) => loadSafetensors(i as Blob)))),
    ];
    for (const loaded of all)
      expect(loaded.w!.toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
    const opened = await openSafetensors(path);
    expect(opened.tensors.get("w")).toMatchObject({ shape: [2, 2], type: "float32" });
    expect(opened.metadata.get("a")).toBe("b");
    expect(tensorOf(await opened.read("w")).toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    await expect(opened.read("W")).rejects.toThrow(/Did you mean "w"/);
    opened.close();
  });

  const f32 = (from: number, to: number, shape = [1]) => ({ dtype: "F32", shape, data_offsets: [from, to] });
  const wrong: [string, Uint8Array, RegExp][] = [
    ["an empty file", new Uint8Array(0), /begins with 8 bytes.*got 0 bytes/],
    ["a header beyond the file", Uint8Array.of(200, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d), /length of 200.*cut short/],
    ["a header of 2^64 - 1 bytes", new Uint8Array(16).fill(255), /length of 18446744073709552000/],
    ["no object", file("[]"), /JSON object; got an array/],
    ["no JSON", file("{'a': 1}"), /JSON: a key.*character 1/],
    ["a name twice", file('{"a":1,"\\u0061":2}'), /each key once, not "a" twice/],
    ["deep nesting", file("[".repeat(100_000)), /at most 32 levels/],
    ["objects without end", file(`{"a":[${"{},".repeat(9999)}{}]}`), /16 bytes for each object and list/],
    ["text after the object", file("{} x"), /nothing after the value/],
    ["bytes that are no UTF-8", Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 0x22, 0xff, 0x22), /must be UTF-8/],
    ["an unknown type", file({ a: { ...f32(0, 4), dtype: "F8_E4M3" } }, 4), /one of U64.*got "F8_E4M3".*tensor "a"/],
    ["a hole", file({ a: f32(4, 8) }, 8), /hole of 4 bytes/],
    ["an overlap", file({ a: f32(0, 4), b: f32(0, 4) }, 4), /begins before the end of another/],
    ["bytes left over", file({ a: f32(0, 4) }, 5), /1 bytes after the last tensor/],
    ["offsets beyond the file", file({ a: f32(0, 8, [2]) }, 4), /within the 4 bytes/],
    ["offsets in reverse", file({ a: f32(4, 0, [0]) }, 4), /two places in order/],
    ["offsets of half a byte", file({ a: f32(0, 3.5) }, 4), /two places in order/],
    ["too few bytes for the shape", file({ a: f32(0, 4, [2]) }, 4), /have room for; got \[2\]/],
    ["too many bytes for the shape", file({ a: f32(0, 8) }, 8), /as many bytes as shape and dtype need/],
    [
      "a shape whose product overflows",
      file({ a: f32(0, 4, [2 ** 31, 2 ** 31, 2 ** 31]) }, 4),
      /whole numbers that 1 elements/,
    ],
    ["metadata of numbers", file({ __metadata__: { a: 1 } }), /object of strings; got a number/],
    [
      "int64 beyond int32",
      file({ a: { ...f32(0, 8), dtype: "I64" } }, Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0)),
      /must lie in its range; got 4294967296/,
    ],
  ];
  for (const [name, bytes, message] of wrong) {
    it(`refuses ${name}`, () => {
      expect(() => loadSafetensors(bytes)).toThrow(message);
      expect(() => loadSafetensors(bytes)).toThrow(FormatError);
    });
  }

  it("refuses what cannot be read or written, in words", async () => {
    const t = tensor([1.5, 300]);
    const save = saveSafetensors as (...args: unknown[]) => unknown;
    expect(() => save("model.safetensors", { t })).toThrow(
      /tensors by name first, then the path; got "model.safetensors"/,
    );
    expect(() => save({ t }, { dtype: "float16" })).toThrow(/options third/);
    expect(() => save({ t }, undefined, { dtypes: { t: "uint8" } })).toThrow(
      /uint8 holds whole numbers.*got 1.5 at place 0 of t/,
    );
    expect(() => save({ t: tensor([1, 65520]) }, undefined, { dtype: "float16" })).toThrow(
      /infinite; got 65520 at place 1 of t/,
    );
    expect(() => save({ t: tensor(new Float64Array([-1e39])) }, undefined, { dtype: "float32" })).toThrow(/infinite/);
    expect(() => save({ t }, undefined, { dtypes: { u: "uint8" } })).toThrow(OptionError);
    expect(() => save({ t }, undefined, { dtype: "F16" })).toThrow(OptionError);
    expect(() => save({ t }, undefined, { metadata: { epoch: 3 } })).toThrow(/object of strings; got epoch: 3/);
    expect(() => save({ __metadata__: t })).toThrow(/Rename it/);
    expect(() => save({ "\ud800": t })).toThrow(/well-formed/);
    expect(() => save(t)).toThrow(/tensors by name first/);
    expect(() => save({ t: [1, 2] })).toThrow(/takes tensors, or/);
    writeFileSync(join(folder, "cut.safetensors"), "12");
    expect(() => loadSafetensors(join(folder, "cut.safetensors"))).toThrow(/cut.safetensors, byte 0/);
    expect(() => loadSafetensors(join(folder, "none.safetensors"))).toThrow(/no such file/);
    expect(() => loadSafetensors("https://example.org/a.safetensors")).toThrow(/new URL/);
    await expect(loadSafetensors(5 as never)).rejects.toThrow(/path, bytes, a Blob/);
  });
});
