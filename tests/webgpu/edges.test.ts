import { describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import { randn } from "../../src/index.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { webgpu } from "../../src/kernels/webgpu/kernels.js";
import type { DevicePlace } from "../../src/memory/device.js";
import { memoryOf } from "../../src/memory/device.js";
import { Storage } from "../../src/memory/storage.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

const kernels = webgpu as KernelSet;
const { POSITIVE_INFINITY: inf, NaN: nan } = Number;

function on(values: number[], dtype: DType = "float32"): Storage {
  const s = new Storage(values.length, dtype, "webgpu");
  const array = dtype === "float32" ? Float32Array : dtype === "int32" ? Int32Array : Float64Array;
  if (values.length > 0) memoryOf("webgpu").write(s as DevicePlace, array.from(values));
  return s;
}
const empty = (length: number, dtype: DType = "float32") =>
  on(Array(length).fill(dtype === "int32" ? -77 : nan), dtype);
const back = async (s: Storage) => Array.from(await memoryOf("webgpu").read(s as DevicePlace));

/** What float32 conformance cases cannot hold. */
describe.skipIf(noWebGPU !== null)(`edges on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  test("float64 pairs move whole", async () => {
    const values = [Math.PI, 1 + 2 ** -40, -1e-3, 5, 6, 7];
    const [y, z] = [empty(6, "float64"), empty(8, "float64")];
    kernels.gather(on(values, "float64"), y, { shape: [3, 2], strides: [1, 3], offset: 0 });
    kernels.scatter(y, z, { shape: [3, 2], strides: [1, 3], offset: 2 });
    const want = [0, 3, 1, 4, 2, 5].map((i) => values[i]!);
    for (const [i, v] of (await back(y)).entries()) expect(Math.abs(v / want[i]! - 1)).toBeLessThan(2 ** -46);
    const moved = await back(z);
    expect(moved.slice(0, 2)).toEqual([nan, nan]);
    for (const [i, v] of moved.slice(2).entries()) expect(Math.abs(v / values[i]! - 1)).toBeLessThan(2 ** -46);
  });

  test.each(["float32", "int32", "float64"] as const)("transposes by tiles, and back, of %s", async (dtype) => {
    const x = on(
      Array.from({ length: 2 * 41 * 67 }, (_, i) => i),
      dtype,
    );
    const [y, z] = [empty(x.length, dtype), empty(x.length, dtype)];
    const turned = { shape: [2, 67, 41], strides: [41 * 67, 1, 67], offset: 0 };
    kernels.gather(x, y, turned);
    const want = Array.from({ length: x.length }, (_, i) => {
      const [outer, row, column] = [Math.floor(i / (41 * 67)), Math.floor(i / 41) % 67, i % 41];
      return outer * 41 * 67 + column * 67 + row;
    });
    expect(await back(y)).toEqual(want);
    kernels.scatter(y, z, turned);
    expect(await back(z)).toEqual(want.map((_, i) => i));
  });

  test.each([
    [1, 5000, 1],
    [3, 700, 7],
  ])("a sum of float64 over [%d, %d, %d] keeps more than float32 has", async (outer, reduce, inner) => {
    const random = new Random(3);
    const x = Array.from({ length: outer * reduce * inner }, () => 1e4 + random.normal());
    const y = empty(outer * inner, "float64");
    kernels.reduce("sum", on(x, "float64"), y, { outer, reduce, inner });
    for (const [at, sum] of (await back(y)).entries()) {
      const [o, i] = [Math.floor(at / inner), at % inner];
      let want = 0;
      for (let r = 0; r < reduce; r++) want += x[(o * reduce + r) * inner + i]!;
      expect(Math.abs(sum / want - 1)).toBeLessThan(1e-12);
    }
  });

  test.each(["sum", "max", "min", "prod", "sumAbs", "sumSquares"] as const)("%s of int32, exact", async (op) => {
    const x = Array.from(
      { length: 60 },
      (_, i) => (op === "prod" ? 1 + (i % 3) : (i * 7919) % 20_011) - (i % 2 ? 9 : 0),
    );
    const join = {
      ...{ sum: (a: number, b: number) => a + b, sumAbs: (a: number, b: number) => a + Math.abs(b) },
      ...{ max: Math.max, min: Math.min, prod: Math.imul, sumSquares: (a: number, b: number) => (a + b * b) | 0 },
    }[op];
    const start = { sum: 0, sumAbs: 0, sumSquares: 0, prod: 1, max: -(2 ** 31), min: 2 ** 31 - 1 }[op];
    for (const [outer, reduce, inner] of [
      [3, 20, 1],
      [3, 5, 4],
      [2, 10, 3],
    ] as const) {
      const y = empty(outer * inner, "int32");
      kernels.reduce(op, on(x, "int32"), y, { outer, reduce, inner });
      const want = Array.from({ length: outer * inner }, (_, at) => {
        const place = (r: number) => (Math.floor(at / inner) * reduce + r) * inner + (at % inner);
        return Array.from({ length: reduce }, (_, r) => x[place(r)]!).reduce((a, b) => join(a, b), start);
      });
      expect(await back(y)).toEqual(want);
    }
  });

  test("a product passes through values that float32 does not hold", async () => {
    for (const [reduce, inner] of [
      [90, 1],
      [90, 5],
      [9001, 1],
    ] as const) {
      const power = (i: number) => (Math.floor(i / inner) < 8 ? 30 : Math.floor(i / inner) < 16 ? -30 : 0);
      const y = empty(inner);
      const x = on(Array.from({ length: reduce * inner }, (_, i) => 10 ** power(i)));
      kernels.reduce("prod", x, y, { outer: 1, reduce, inner });
      for (const v of await back(y)) expect(v).toBeCloseTo(1, 5);
    }
  });

  test("a long sum keeps its digits", async () => {
    const n = 1_000_000;
    const x = empty(n);
    kernels.fill(x, 0.1);
    for (const inner of [1, 10, 1000]) {
      const y = empty(inner);
      kernels.reduce("sum", x, y, { outer: 1, reduce: n / inner, inner });
      const want = (Math.fround(0.1) * n) / inner;
      for (const v of await back(y)) expect(Math.abs(v / want - 1)).toBeLessThan(2.5e-7);
    }
  });

  test("a target that is no class, and a row that the table lacks, give NaN", async () => {
    const options = { rows: 4, classes: 3, smoothing: 0, ignoreIndex: -100 };
    const target = on([3, -1, -100, 2], "int32");
    const [logProbs, losses, dx] = [empty(12), empty(4), empty(12)];
    kernels.crossEntropy(on(Array.from({ length: 12 }, (_, i) => i % 5)), target, logProbs, losses, options);
    kernels.crossEntropyGrad(logProbs, target, on([1, 1, 1, 1]), dx, options);
    const [above, below, ignored, fine] = await back(losses);
    expect([above, below, ignored]).toEqual([nan, nan, 0]);
    expect(fine).toBeGreaterThan(0);
    expect((await back(dx)).map(Number.isNaN)).toEqual([...Array(6).fill(true), ...Array(6).fill(false)]);
    const y = empty(6);
    kernels.embedding(on([1, 2, 3, 4]), on([1, 2, -1], "int32"), y, 2);
    expect(await back(y)).toEqual([3, 4, nan, nan, nan, nan]);
    const table = on([1, 2, 3, 4]);
    kernels.embeddingGrad(on([1, 2, -1, 1], "int32"), on([1, 1, 5, 5, 7, 7, 2, 2]), table, 2);
    expect(await back(table)).toEqual([1, 2, 6, 7]);
  });

  test("a confident prediction keeps the digits of its loss and of its gradient", async () => {
    const options = { rows: 1, classes: 3, smoothing: 0, ignoreIndex: -1 };
    const [logProbs, losses, dx, target] = [empty(3), empty(1), empty(3), on([0], "int32")];
    kernels.crossEntropy(on([20, 0, -5]), target, logProbs, losses, options);
    kernels.crossEntropyGrad(logProbs, target, on([1]), dx, options);
    const rest = Math.exp(-20) + Math.exp(-25);
    expect((await back(losses))[0]! / Math.log1p(rest)).toBeCloseTo(1, 5);
    expect((await back(dx))[0]! / (-rest / (1 + rest))).toBeCloseTo(1, 5);
    kernels.crossEntropy(on([-inf, 0, 0]), on([1], "int32"), logProbs, losses, options);
    expect((await back(losses))[0]).toBeCloseTo(Math.log(2), 6);
  });

  test("cross entropy over its own input", async () => {
    const options = { rows: 2, classes: 400, smoothing: 0.1, ignoreIndex: -1 };
    const random = new Random(9);
    const values = Array.from({ length: 800 }, () => random.normal());
    const [x, apart, target] = [on(values), empty(800), on([399, 0], "int32")];
    const [losses, others] = [empty(2), empty(2)];
    kernels.crossEntropy(on(values), target, apart, losses, options);
    kernels.crossEntropy(x, target, x, others, options);
    expect(await back(others)).toEqual(await back(losses));
    expect(await back(x)).toEqual(await back(apart));
  });

  test("argMax of a tensor where the tensor is", async () => {
    const x = randn([4, 5, 6]);
    const at = x.to("webgpu").argMax(1);
    expect(at.device).toBe("webgpu");
    expect(await at.data()).toEqual(x.argMax(1).dataSync());
  });

  test("no element is kept at 0, each at 1, with a scale that is infinite too", async () => {
    const y = empty(1001);
    kernels.dropoutMask(y, 0, inf, 7);
    expect(new Set(await back(y))).toEqual(new Set([0]));
    kernels.dropoutMask(y, 1, 1, 7);
    expect(new Set(await back(y))).toEqual(new Set([1]));
  });

  test("maxPool names the first of equal values, also where all are -Infinity", async () => {
    const triple = (w: number, h = 1) => [1, h, w] as const;
    for (const value of [7, -inf]) {
      const [y, index] = [empty(3), empty(3, "int32")];
      kernels.maxPool(on(Array(12).fill(value)), y, index, {
        ...{ planes: 1, input: triple(6, 2), output: triple(3), kernel: triple(2, 2), stride: triple(2, 2) },
        ...{ padding: [0, 0, 0], dilation: triple(1), countIncludePad: true },
      });
      expect(await back(index)).toEqual([0, 2, 4]);
    }
  });

  test("an infinite parameter without weight decay does not become NaN", async () => {
    const p = on(Array(5).fill(inf));
    const o = { lr: 0.1, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false, first: false, maximize: false };
    kernels.sgd([p], [on(Array(5).fill(1))], null, o);
    expect(await back(p)).toEqual(Array(5).fill(inf));
  });

  test("the sum of no squares", async () => {
    const sums = empty(2);
    kernels.sumSquaresOf([on([]), on([3, 4])], sums);
    expect(await back(sums)).toEqual([0, 25]);
  });
});
