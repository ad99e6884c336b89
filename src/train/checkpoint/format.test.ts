import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../base/errors.js";
import { decodeCheckpoint, encodeCheckpoint, type NamedArray } from "./format.js";

const join = (pieces: readonly Uint8Array[]): Buffer => Buffer.concat(pieces);

const odd = new Float32Array([1.5, -0, Number.NaN, Number.POSITIVE_INFINITY, 1e-45]);
const arrays: NamedArray[] = [
  { name: "0.weight", dtype: "float32", shape: [5], data: odd },
  { name: "a", dtype: "float64", shape: [3, 1], data: new Float64Array([Math.PI, -1e300, 5e-324]) },
  { name: "labels", dtype: "int32", shape: [], data: new Int32Array([-7]) },
  { name: "nothing", dtype: "float32", shape: [0, 4], data: new Float32Array(0) },
];
const meta = { step: 12, text: "ünïcode ✓", nested: [1, { x: null }] };
const file = (): Buffer => join(encodeCheckpoint({ meta, arrays }));

/** The file with `change` made to it and a digest that fits again. */
function resealed(change: (bytes: Buffer) => void): Buffer {
  const bytes = file();
  change(bytes);
  createHash("sha256")
    .update(bytes.subarray(0, -32))
    .digest()
    .copy(bytes, bytes.length - 32);
  return bytes;
}

describe("checkpoint format", () => {
  it("gives back the same bits, wherever in memory the file lies", () => {
    for (const shift of [0, 1, 3]) {
      const moved = new Uint8Array(file().length + shift);
      moved.set(file(), shift);
      const content = decodeCheckpoint(moved.subarray(shift), "x.evk");
      expect(content.meta).toEqual(meta);
      expect(content.arrays.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(
        arrays.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
      );
      for (const [i, { data }] of content.arrays.entries()) {
        const wanted = arrays[i]!.data;
        expect(Buffer.from(data.buffer, data.byteOffset, data.byteLength)).toEqual(
          Buffer.from(wanted.buffer, wanted.byteOffset, wanted.byteLength),
        );
      }
    }
  });

  it("refuses the file at every length but its own", () => {
    const whole = file();
    for (let length = 0; length < whole.length; length++) {
      expect(() => decodeCheckpoint(whole.subarray(0, length), "x.evk"), `${length} bytes`).toThrow(FormatError);
    }
    expect(() => decodeCheckpoint(join([whole, Buffer.from([0])]), "x.evk")).toThrow(/cut short or damaged/);
  });

  it("notices one flipped bit anywhere", () => {
    const whole = file();
    for (let i = 0; i < whole.length; i++) {
      const damaged = Buffer.from(whole);
      damaged[i]! ^= 1 << (i % 8);
      expect(() => decodeCheckpoint(damaged, "x.evk"), `byte ${i}`).toThrow(FormatError);
    }
  });

  it("names foreign files and versions", () => {
    expect(() => decodeCheckpoint(Buffer.from("PK\u0003\u0004 a zip file"), "model.npz")).toThrow(
      /begins with EVKLCKPT; got model\.npz, which begins with "PK/,
    );
    expect(() => decodeCheckpoint(new Uint8Array(0), "x.evk")).toThrow(/which is empty/);
    expect(() =>
      decodeCheckpoint(
        resealed((b) => b.writeUInt32LE(9, 8)),
        "x.evk",
      ),
    ).toThrow(/version 1; got version 9/);
  });

  it("checks the header even when the digest fits", () => {
    expect(() =>
      decodeCheckpoint(
        resealed((b) => b.writeUInt32LE(2 ** 31, 12)),
        "x",
      ),
    ).toThrow(FormatError);
    const swap = (from: string, to: string) =>
      resealed((b) => {
        const at = b.indexOf(from);
        expect(at).toBeGreaterThan(0);
        b.write(to, at);
      });
    expect(() => decodeCheckpoint(swap('"shape":[5]', '"shape":[9]'), "x")).toThrow(/lists arrays/);
    expect(() => decodeCheckpoint(swap('"dtype":"int32"', '"dtype":"int31"'), "x")).toThrow(/lists arrays/);
    expect(() => decodeCheckpoint(swap('"arrays"', '"arroys"'), "x")).toThrow(/lists arrays/);
    expect(() => decodeCheckpoint(swap('"offset":24', '"offset":99'), "x")).toThrow(/lists arrays/);
  });
});
