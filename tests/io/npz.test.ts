import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { zipSync } from "fflate";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DTypeError, FormatError, scope, type Tensor, tensor } from "../../src/index.js";
import { loadNpy, loadNpz, openNpz, saveNpy, saveNpz } from "../../src/io/index.js";
import { joined } from "../../src/io/joined.js";
import { openNow } from "../../src/io/source/open.js";
import { readNow } from "../../src/io/source/reading.js";
import { readDirectory } from "../../src/io/zip/directory.js";
import { zipPieces } from "../../src/io/zip/write.js";

const recorded = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`files/${name}`, import.meta.url)));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What record_numpy.py calls a ramp, by the code of its type. */
function ramp(shape: readonly number[], code: string): number[] {
  const kind = code.replace(/[<>]/, "")[0]!;
  return Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => {
    const v = ((7 * i) % 23) - 11;
    if (kind === "f") return v / 4;
    if (kind === "u") return Math.abs(v);
    return kind === "b" ? Number(v % 3 === 0) : v;
  });
}

const values = (t: Tensor): number[] => [...t.dataSync()].map((v) => (v === 0 && !Object.is(v, -0) ? 0 : v));
const plain = (numbers: readonly number[]): number[] => numbers.map((v) => v + 0);

describe("files that numpy wrote", () => {
  for (const file of ["numpy_stored.npz", "numpy_deflated.npz"]) {
    it(`${file}: every type in both byte orders, ranks 0 to 5, Fortran order, empty arrays`, () => {
      scope(() => {
        const all = loadNpz(recorded(file));
        let seen = 0;
        for (const [name, t] of Object.entries(all)) {
          seen++;
          const [kind, detail] = name.split(" ") as [string, string];
          if (kind === "special") continue;
          if (kind === "empty") expect(t.shape).toEqual([[0], [3, 0, 2], [0, 0]][Number(detail)]);
          else if (kind === "rank") expect(t.shape).toEqual([2, 3, 4, 5, 6].slice(0, Number(detail)));
          else if (kind === "fortran") expect(t.shape).toEqual([3, 4, 2]);
          const code = /^[<>]/.test(kind) ? kind : kind === "fortran" ? detail : "f4";
          const wanted = ramp(t.shape, code);
          expect(plain(values(t)), name).toEqual(plain(wanted));
          expect(t.dtype, name).toBe(code.includes("f8") ? "float64" : code.includes("f") ? "float32" : "int32");
        }
        expect(seen).toBe(38);
        const halves = [0, -0, Infinity, -Infinity, NaN, 0, 0, 65504, Infinity, 2 ** -24, 1365 * 2 ** -12];
        expect(values(all["special f2"]!)).toEqual(halves);
        const special = [0, -0, Infinity, -Infinity, NaN, 5e-324, 1e-40, 65504, 65520, 6e-8, 1 / 3];
        expect(values(all["special f4"]!)).toEqual([...new Float32Array(special)]);
        expect(values(all["special f8"]!)).toEqual(special);
        expect(Object.getPrototypeOf(all)).toBe(Object.prototype);
      });
    });
  }

  it("reads npy of versions 1.0, 2.0 and 3.0, and writes byte by byte what numpy writes", () => {
    scope(() => {
      for (const v of [2, 3]) expect(values(loadNpy(recorded(`numpy_v${v}.npy`)))).toEqual(plain(ramp([2, 3], "f4")));
      const types = {
        f8: "float64",
        f4: "float32",
        f2: "float16",
        i8: "int64",
        i4: "int32",
        u1: "uint8",
        b1: "bool",
      } as const;
      for (const [code, dtype] of Object.entries(types)) {
        const bytes = recorded(`numpy_${code}.npy`);
        expect(Buffer.from(saveNpy(loadNpy(bytes), undefined, { dtype })), code).toEqual(Buffer.from(bytes));
      }
      for (const name of ["scalar", "vector"]) {
        const bytes = recorded(`numpy_${name}.npy`);
        expect(Buffer.from(saveNpy(loadNpy(bytes))), name).toEqual(Buffer.from(bytes));
      }
    });
  });

  const refused: [string, RegExp][] = [
    ["object", /objects, which are stored as pickles and would have to be executed/],
    ["structure", /a structure \(structures\)/],
    ["complex", /complex numbers/],
    ["text", /"<U2" \(text\)/],
    ["dates", /dates/],
  ];
  for (const [name, message] of refused) {
    it(`refuses an array of ${name}`, () => {
      expect(() => loadNpy(recorded(`numpy_${name}.npy`))).toThrow(message);
      expect(() => loadNpy(recorded(`numpy_${name}.npy`))).toThrow(FormatError);
    });
  }
});

describe("npy and npz", () => {
  it("gives back names, shapes and bits of any tensors, deflated or not", () => {
    let [files, tensors] = [0, 0];
    const numbers = [
      (n: number) => fc.float32Array({ minLength: n, maxLength: n }),
      (n: number) => fc.float64Array({ minLength: n, maxLength: n }),
      (n: number) => fc.int32Array({ minLength: n, maxLength: n }),
    ];
    const anyTensor = fc
      .tuple(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }), fc.constantFrom(...numbers))
      .chain(([shape, make]) => make(shape.reduce((n, d) => n * d, 1)).map((data) => ({ shape, data })));
    const name = fc.oneof(
      fc.constantFrom("__proto__", "", "a.b", "arr_0", "7", "a/b"),
      fc.string({ unit: "grapheme" }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(name, anyTensor), { maxLength: 5 }), fc.boolean(), (entries, compress) => {
        const given = new Map(entries);
        files++;
        tensors += given.size;
        scope(() => {
          const loaded = loadNpz(saveNpz(given, undefined, { compress }));
          expect(Object.keys(loaded).sort()).toEqual([...given.keys()].sort());
          for (const [n, { shape, data }] of given) {
            const t = Object.getOwnPropertyDescriptor(loaded, n)!.value as Tensor;
            expect(t.shape).toEqual(shape);
            expect(Buffer.from(new Uint8Array(t.dataSync().buffer))).toEqual(
              Buffer.from(data.buffer, data.byteOffset, data.byteLength),
            );
          }
        });
      }),
      { numRuns: 200, seed: 7 },
    );
    console.info(`npz: ${files} files with ${tensors} tensors written and read back`);
  });

  it("reads a file, a Blob and one array at a time", async () => {
    const path = join(folder, "a.npz");
    const size = saveNpz({ w: tensor([1, 2]), n: tensor([3], { dtype: "int32" }) }, path, { dtypes: { n: "int64" } });
    expect(size).toBe(readFileSync(path).length);
    const file = await openNpz(path);
    expect([...file.tensors.values()].map(({ shape, type }) => [shape, type])).toEqual([
      [[2], "float32"],
      [[1], "int64"],
    ]);
    expect([...(await file.read("n")).data]).toEqual([3]);
    file.close();
    const blob = new Blob([readFileSync(path)]);
    expect((await loadNpz(blob)).w!.toArray()).toEqual([1, 2]);
    expect((await loadNpy(new Blob([saveNpy(tensor([4])) as BlobPart]))).toArray()).toEqual([4]);
  });

  const npy = (header: string, data = 0): Uint8Array => {
    const bytes = new Uint8Array(10 + header.length + data);
    bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
    bytes.set(new TextEncoder().encode(header), 10);
    return bytes;
  };
  const dict = (shape: string, descr = "'<f4'"): string =>
    `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}}`;
  const wrong: [string, Uint8Array, RegExp][] = [
    ["another format", Uint8Array.from({ length: 20 }), /begins with .x93NUMPY/],
    [
      "a version of the future",
      Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 4, 0, 0, 0),
      /versions of npy.*got 4.0/,
    ],
    ["a header beyond the file", npy("").fill(255, 8), /got 65535 in 10 bytes/],
    ["a call in the header", npy("{'descr': __import__('os'), 'shape': ()}"), /Python literal: text, whole numbers/],
    ["a key twice", npy("{'descr': '<f4', 'descr': '<f4'}"), /each key once/],
    ["deep nesting", npy("(".repeat(9000)), /16 levels/],
    ["too few numbers", npy(dict("(3,)"), 8), /have room for; got \[3\]/],
    ["too many numbers", npy(dict("(1,)"), 8), /as many bytes/],
    ["a shape whose product overflows", npy(dict("(4294967296, 4294967296, 4294967296)")), /whole numbers that 0/],
    ["an axis below 0", npy(dict("(-1, -1)"), 4), /whole numbers/],
    ["a shape in brackets alone", npy(dict("(1)"), 4), /shape a tuple/],
    ["no such type", npy(dict("(1,)", "'<f3'"), 3), /got "<f3"/],
  ];
  for (const [name, bytes, message] of wrong) {
    it(`refuses ${name}`, () => {
      expect(() => loadNpy(bytes)).toThrow(message);
      expect(() => loadNpy(bytes)).toThrow(FormatError);
    });
  }

  it("refuses zip files that lie", () => {
    const good = npy(dict("(2,)"), 8);
    const zip = (files: Record<string, Uint8Array>, level: 0 | 9 = 9): Uint8Array => zipSync(files, { level });
    const changed = (bytes: Uint8Array, find: number, offset: number, value: number, width = 4): Uint8Array => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      let at = bytes.length - 4;
      while (view.getUint32(at, true) !== find) at--;
      for (let i = 0; i < width; i++) bytes[at + offset + i] = (value >>> (8 * i)) & 255;
      return bytes;
    };
    const entry = 0x02014b50;
    const end = 0x06054b50;
    const refused: [Uint8Array, RegExp][] = [
      [zip({ "a.npy": good }).slice(0, -1), /ends with its directory/],
      [zip({ "a.txt": good }), /holds .npy files/],
      [changed(zip({ "a.npy": good }), entry, 16, 1), /check sum/],
      [changed(zip({ "a.npy": good }), entry, 8, 1, 2), /encrypted/],
      [changed(zip({ "a.npy": good }), entry, 10, 14, 2), /method 14/],
      [changed(zip({ "a.npy": good }), entry, 24, 2 ** 31), /Deflate packs 1032/],
      [changed(zip({ "a.npy": good }, 0), entry, 24, 7), /one size/],
      [changed(zip({ "a.npy": good }), entry, 42, 3), /share no bytes|begins with its header/],
      [changed(zip({ "a.npy": good, "b.npy": good }), entry, 42, 0), /share no bytes/],
      [changed(zip({ "a.npy": good, "b.npy": good }), entry, 46, 0x61, 1), /Each name is there once/],
      [changed(zip({ "a.npy": good }), end, 10, 9, 2), /holds its entries|has 9 entries/],
      [changed(zip({ "a.npy": good }), end, 16, 2 ** 30), /within the file/],
      [changed(zip({ "a.npy": good }), end, 16, 2 ** 32 - 1), /zip64/],
      // 4 MB of zeros under a header that needs 8 bytes of them.
      [zip({ "a.npy": npy(dict("(2,)"), 2 ** 22) }), /as many bytes/],
      [
        changed(zip({ "a.npy": npy(dict("(1048576,)"), 2 ** 22) }), entry, 24, good.length),
        /unpacks to 73 bytes; got more/,
      ],
    ];
    for (const [bytes, message] of refused) {
      expect(() => loadNpz(bytes)).toThrow(message);
      expect(() => loadNpz(bytes)).toThrow(FormatError);
    }
    // A directory that announces less than there is: nothing beyond it is unpacked.
    const bomb = zip({ "a.npy": npy(dict("(2,)"), 8 + 2 ** 24) });
    expect(() => loadNpz(changed(bomb, entry, 24, good.length))).toThrow(/unpacks to \d+ bytes; got more/);
  });

  it("reads zip64 records, as files of 4 GB have them", () => {
    const data = npy(dict("(2,)"), 8);
    const name = new TextEncoder().encode("a.npy");
    const le = (...fields: [number, number | bigint][]): Buffer =>
      Buffer.concat(fields.map(([width, v]) => Buffer.from(new BigUint64Array([BigInt(v)]).buffer).subarray(0, width)));
    const crc = new DataView(zipSync({ a: data }).buffer).getUint32(14, true);
    const wide = 0xffffffff;
    const common: [number, number | bigint][] = [
      [2, 45],
      [2, 0],
      [2, 0],
      [4, 0],
      [4, crc],
      [4, wide],
      [4, wide],
      [2, 5],
    ];
    const extra = le([2, 1], [2, 16], [8, data.length], [8, data.length]);
    const local = Buffer.concat([le([4, 0x04034b50], ...common, [2, extra.length]), name, extra, data]);
    const more = (size: bigint): Buffer =>
      le([2, 99], [2, 1], [1, 7], [2, 1], [2, 24], [8, size], [8, data.length], [8, 0]);
    const central = (size: bigint, count = 1): Buffer => {
      const field = more(size);
      const entry = Buffer.concat([
        le([4, 0x02014b50], [2, 45], ...common, [2, field.length], [2, 0], [2, 0], [2, 0], [4, 0], [4, wide]),
        name,
        field,
      ]);
      const end = local.length + entry.length;
      return Buffer.concat([
        local,
        entry,
        le(
          [4, 0x06064b50],
          [8, 44],
          [2, 45],
          [2, 45],
          [4, 0],
          [4, 0],
          [8, count],
          [8, count],
          [8, entry.length],
          [8, local.length],
        ),
        le([4, 0x07064b50], [4, 0], [8, end], [4, 1]),
        le([4, 0x06054b50], [2, 0], [2, 0], [2, 0xffff], [2, 0xffff], [4, wide], [4, wide], [2, 0]),
      ]);
    };
    const size = BigInt(data.length);
    expect(scope(() => loadNpz(central(size)).a!.toArray())).toEqual([0, 0]);
    expect(() => loadNpz(central(size + 1n))).toThrow(/one size/);
    expect(() => loadNpz(central(2n ** 64n - 1n))).toThrow(/one size/);
    expect(() => loadNpz(central(size, 2 ** 40))).toThrow(/holds its entries/);
  });

  it("writes more entries than the first zip could count", () => {
    const nothing = new Uint8Array(0);
    const names = Array.from({ length: 65_600 }, (_, i) => `n${i}`);
    const bytes = joined(
      zipPieces(
        names.map((name) => ({ name, bytes: () => nothing })),
        false,
      ),
    );
    expect(bytes.subarray(-14, -10)).toEqual(Uint8Array.of(255, 255, 255, 255));
    expect([...readNow(readDirectory(openNow(bytes))).keys()].join()).toBe(names.join());
  });

  it("says what numpy does not have", () => {
    expect(() => saveNpz({ a: tensor([1]) }, undefined, { dtype: "bfloat16" })).toThrow(DTypeError);
    expect(() => saveNpy(tensor([300]), undefined, { dtype: "int8" })).toThrow(
      /int8 holds whole numbers from -128 to 127/,
    );
  });
});
