import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../src/base/random.js";
import { FormatError } from "../../src/index.js";
import { type ElementName, elementTypes, fromFloat16, toBFloat16, toFloat16 } from "../../src/io/elements.js";

/** binary16 by its definition in IEEE 754, written with bits as text. */
function half(bits: number): number {
  const text = bits.toString(2).padStart(16, "0");
  const [sign, exponent, fraction] = [
    text[0] === "1" ? -1 : 1,
    Number.parseInt(text.slice(1, 6), 2),
    Number.parseInt(text.slice(6), 2),
  ];
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * (fraction / 1024) * 2 ** -14 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

describe("float16", () => {
  it("reads and writes each of the 65,536 patterns", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = half(bits);
      if (!Object.is(fromFloat16(bits), value)) expect(fromFloat16(bits), bits.toString(16)).toBe(value);
      const back = toFloat16(value);
      if (Number.isNaN(value) ? !Number.isNaN(half(back)) : back !== bits) expect(back, bits.toString(16)).toBe(bits);
    }
  });

  it("writes float32 as it writes float64, bit by bit", () => {
    const bits = new Uint32Array(65536 * 6);
    // Every upper half with lower halves around the places where 13 bits are rounded away, and any.
    const lows = [0, 0xfff, 0x1000, 0x1001, 0x3000, 0x8a5f];
    for (let i = 0; i < bits.length; i++) bits[i] = Math.floor(i / 6) * 65536 + lows[i % 6]!;
    const short = new Float32Array(bits.buffer);
    const wanted = Buffer.from(elementTypes.float16.encode(Float64Array.from(short)));
    // As whole arrays: expect() compares a million bytes in seconds.
    expect(wanted.equals(elementTypes.float16.encode(short))).toBe(true);
  });

  it("rounds to the nearest, ties to even, between all neighbours", () => {
    for (let bits = 0; bits < 0x7c00; bits++) {
      const [low, high] = [half(bits), bits + 1 === 0x7c00 ? 65536 : half(bits + 1)];
      const middle = (low + high) / 2;
      const even = bits % 2 === 0 ? bits : bits + 1;
      const near = (high - low) * 2 ** -20;
      const got = [middle, middle - near, middle + near, -middle].map(toFloat16);
      const wanted = [even, bits, bits + 1, even | 0x8000];
      if (got.some((v, i) => v !== wanted[i])) expect(got, `after ${low}`).toEqual(wanted);
    }
    expect([65520, 1e300, 2 ** -25, 2 ** -25 * 1.0000001, 5e-324, -5e-324].map(toFloat16)).toEqual([
      0x7c00, 0x7c00, 0, 1, 0, 0x8000,
    ]);
  });
});

describe("bfloat16", () => {
  it("rounds the bits of float32 to even, keeps infinities, and never makes one of a NaN", () => {
    const bits = new Uint32Array(1);
    const value = new Float32Array(bits.buffer);
    const random = new Random(3);
    const lows = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    for (let high = 0; high < 65536; high++) {
      for (const low of [...lows, Math.floor(random.uniform() * 65536)]) {
        bits[0] = high * 65536 + low;
        const got = toBFloat16(value[0]!);
        if (Number.isNaN(value[0]!)) {
          if ((got & 0x7f80) !== 0x7f80 || (got & 0x7f) === 0) expect(got).toBe("a NaN");
          continue;
        }
        const up = low > 0x8000 || (low === 0x8000 && high % 2 === 1);
        if (got !== high + Number(up)) expect(got, bits[0].toString(16)).toBe(high + Number(up));
      }
    }
  });

  it("reads exactly", () => {
    const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const read = elementTypes.bfloat16.decode(new Uint8Array(patterns.buffer), "x", 0);
    const bits = new Uint32Array(read.buffer);
    expect(patterns.findIndex((upper, i) => bits[i] !== upper * 65536)).toBe(-1);
  });
});

describe("whole numbers", () => {
  const wide = (values: bigint[], signed: boolean): Uint8Array =>
    new Uint8Array((signed ? BigInt64Array : BigUint64Array).from(values as never).buffer);

  it("reads int64 and uint64 within int32, and says which number is beyond", () => {
    const least = -(2n ** 31n);
    const most = 2n ** 31n - 1n;
    expect([...elementTypes.int64.decode(wide([least, -1n, 0n, most], true), "x", 0)]).toEqual([
      -(2 ** 31),
      -1,
      0,
      2 ** 31 - 1,
    ]);
    expect([...elementTypes.uint64.decode(wide([0n, most], false), "x", 0)]).toEqual([0, 2 ** 31 - 1]);
    for (const v of [most + 1n, least - 1n, 2n ** 63n - 1n, 2n ** 32n, 2n ** 53n + 1n]) {
      const read = () => elementTypes.int64.decode(wide([0n, v], true), "x.npy", "array");
      expect(read).toThrow(FormatError);
      expect(read).toThrow(new RegExp(`got ${v} at place 1 \\(x.npy, array\\)`));
    }
    expect(() => elementTypes.uint32.decode(new Uint8Array([255, 255, 255, 255]), "x", 0)).toThrow(/got 4294967295/);
  });

  it("writes what it reads, for every type", () => {
    const types = Object.keys(elementTypes) as ElementName[];
    fc.assert(
      fc.property(fc.constantFrom(...types), fc.uint8Array({ maxLength: 96 }), (type, bytes) => {
        const { bytes: width, decode, encode } = elementTypes[type];
        const whole = bytes.subarray(0, bytes.length - (bytes.length % width));
        // Upper halves of wide numbers are made the sign of the lower, so that they fit.
        const fits =
          type === "int64" ? wide([...new Int32Array(whole.slice().buffer)].map(BigInt), true) : whole.slice();
        if (type === "uint64" || type === "uint32")
          for (let i = 3; i < fits.length; i++) if (i % width > 2) fits[i] = 0;
        if (type === "bool") for (const [i, v] of fits.entries()) fits[i] = v & 1;
        const numbers = decode(fits, "x", 0);
        expect(numbers.length).toBe(fits.length / width);
        if (numbers.some(Number.isNaN) && width === 2) return;
        expect(Buffer.from(encode(numbers))).toEqual(Buffer.from(fits));
      }),
      { numRuns: 2000, seed: 9 },
    );
  });

  it("takes bytes that are not aligned, and does not hold them", () => {
    const file = new Uint8Array(13);
    file.set(new Uint8Array(new Float32Array([1.5, -2]).buffer), 3);
    const read = elementTypes.float32.decode(file.subarray(3, 11), "x", 0);
    file.fill(0);
    expect([...read]).toEqual([1.5, -2]);
  });
});
