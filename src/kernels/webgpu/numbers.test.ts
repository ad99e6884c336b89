import { expect, test } from "vitest";
import { decode, encode, fromHalf, toHalf } from "./numbers.js";

const exponentOf = (bits: number): number => (bits >> 10) & 31;

test("every half is a number, and comes back as the same half", () => {
  for (let bits = 0; bits < 65_536; bits++) {
    const [exponent, fraction, v] = [exponentOf(bits), bits & 1023, fromHalf(bits)];
    if (exponent === 31 && fraction > 0) {
      expect(v).toBeNaN();
      expect(exponentOf(toHalf(v)) === 31 && (toHalf(v) & 1023) > 0).toBe(true);
      continue;
    }
    const size =
      exponent === 31 ? Infinity : exponent === 0 ? fraction / 2 ** 24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    if (v !== (bits >> 15 ? -size : size) || toHalf(v) !== bits) throw new Error(`half ${bits.toString(16)} is ${v}`);
  }
});

test("numbers between two halves go to the nearer one, and to the even one from the middle", () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    const low = fromHalf(bits);
    // Beyond the largest half the next would be 65536, which is infinity.
    const high = bits === 0x7bff ? 65_536 : fromHalf(bits + 1);
    const middle = (low + high) / 2;
    const even = bits % 2 === 0 ? bits : bits + 1;
    const near = (high - low) * 2 ** -30;
    const got = [toHalf(middle), toHalf(-middle), toHalf(middle - near), toHalf(middle + near)];
    const want = [even, even | 0x8000, bits, bits + 1];
    if (got.some((v, i) => v !== want[i])) throw new Error(`beside ${low}: ${got} instead of ${want}`);
  }
});

test("edges: zeros keep their sign, what is too small is 0, what is too large infinity", () => {
  expect([0, -0, 2 ** -25, -(2 ** -25), 2 ** -24 * 0.75].map(toHalf)).toEqual([0, 0x8000, 0, 0x8000, 1]);
  expect([65_519.999, 65_520, 1e300, -Infinity].map(toHalf)).toEqual([0x7bff, 0x7c00, 0x7c00, 0xfc00]);
  expect([5e-324, 1e-40].map(toHalf)).toEqual([0, 0]);
});

test("halves come in whole words, and back in their number", () => {
  const words = encode(Float32Array.of(1, -2, 0.5), "float16") as ArrayBuffer;
  expect([...new Uint16Array(words)]).toEqual([0x3c00, 0xc000, 0x3800, 0]);
  expect(decode(words.slice(0, 6), "float16")).toEqual(Float32Array.of(1, -2, 0.5));
});
