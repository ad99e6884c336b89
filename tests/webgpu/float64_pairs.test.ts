import { describe, expect, test } from "vitest";
import { noGrad, type Tensor, tensor, where } from "../../src/autograd/index.js";
import { Random } from "../../src/base/random.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

const random = new Random(5);
/** Of very different sizes, and with all digits that a float64 has. */
const drawn = (n: number) => Float64Array.from({ length: n }, () => random.normal() * 10 ** (random.uniform() * 8 - 4));
const positive = (n: number) => drawn(n).map(Math.abs);

const close = async (of: (...on: Tensor[]) => Tensor, ...inputs: Float64Array[]) => {
  const cpu = noGrad(() => of(...inputs.map((v) => tensor(v)))).dataSync();
  const got = await noGrad(() => of(...inputs.map((v) => tensor(v, { device: "webgpu" })))).data();
  for (const [i, v] of got.entries()) {
    if (!Number.isFinite(cpu[i]!)) expect(v, `${i}`).toBe(cpu[i]);
    else expect(Math.abs(v - cpu[i]!), `${i}: ${v}, ${cpu[i]}`).toBeLessThanOrEqual(2 ** -43 * Math.abs(cpu[i]!));
  }
};

describe.skipIf(noWebGPU !== null)(`float64 as pairs on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  test("products, quotients and roots keep 43 bits", async () => {
    await close((a, b) => a.mul(b), drawn(301), drawn(301));
    await close((a, b) => a.div(b), drawn(301), drawn(301));
    await close((a) => a.sqrt(), positive(301));
    await close((a) => a.rsqrt(), positive(301));
    await close((a) => a.reciprocal(), drawn(301));
    await close((a) => a.square(), drawn(301));
  });

  test("sums keep 43 bits of what is added", async () => {
    const [a, b] = [drawn(1001), drawn(1001)];
    const on = (device: "cpu" | "webgpu") => [a, b].map((v) => tensor(v, { device })) as [Tensor, Tensor];
    for (const of of [(x: Tensor, y: Tensor) => x.add(y), (x: Tensor, y: Tensor) => x.sub(y)]) {
      const [want, got] = [of(...on("cpu")).dataSync(), await of(...on("webgpu")).data()];
      for (const [i, v] of got.entries()) {
        const bound = 2 ** -43 * (Math.abs(a[i]!) + Math.abs(b[i]!));
        expect(Math.abs(v - want[i]!)).toBeLessThanOrEqual(bound);
      }
    }
    const total = (await tensor(a, { device: "webgpu" }).sum().data())[0]!;
    const exact = a.reduce((sum, v) => sum + v, 0);
    const sizes = a.reduce((sum, v) => sum + Math.abs(v), 0);
    expect(Math.abs(total - exact)).toBeLessThanOrEqual(2 ** -43 * sizes);
  });

  test("a mean of 1e6 with a tail is taken away to its last digit", async () => {
    const mean = Float64Array.from({ length: 40 }, () => 1e6 + random.normal() * 1e-2);
    await close((m) => m.sub(1e6).mul(3), Float64Array.of(...mean.map((v) => 1e6 + 2 ** -4 * Math.round(v - 1e6))));
    const got = await tensor(mean, { device: "webgpu" }).sub(1e6).data();
    for (const [i, v] of got.entries()) expect(Math.abs(v - (mean[i]! - 1e6))).toBeLessThanOrEqual(1e6 * 2 ** -43);
  });

  test("comparisons, choices, infinities, zeros and NaN", async () => {
    const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
    const a = Float64Array.of(1 + 2 ** -40, 1, 0, -1, inf, nan, 2, -inf, 0, 5);
    const b = Float64Array.of(1, 1 + 2 ** -40, 0, -1, 1, 1, nan, 3, -2, inf);
    const ops: ((x: Tensor, y: Tensor) => Tensor)[] = [
      (x, y) => x.greater(y),
      (x, y) => x.greaterEqual(y),
      (x, y) => x.less(y),
      (x, y) => x.lessEqual(y),
      (x, y) => x.equal(y),
      (x, y) => x.notEqual(y),
      (x, y) => x.maximum(y),
      (x, y) => x.minimum(y),
      (x, y) => where(x.equal(0), inf, x.square()).rsqrt().mul(y),
      (x, y) => x.div(y),
      (x, y) => x.isNaN().add(y.logicalNot()).add(x.sign()).add(x.abs()),
    ];
    for (const op of ops) await close(op, a, b);
  });
});
