import fc from "fast-check";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { noGrad, randn, scope, type Tensor, tensor } from "../../src/index.js";
import type { BinaryOp, UnaryOp } from "../../src/kernels/kernel_set.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { webgpu } from "../../src/kernels/webgpu/kernels.js";
import { type DevicePlace, memoryOf } from "../../src/memory/device.js";
import { partOf, type Slot } from "../../src/memory/heap.js";
import { Storage } from "../../src/memory/storage.js";
import { noFloat16, noWebGPU } from "../conformance/webgpu_mirror.js";

const { unary, binary, fill, addScaled } = webgpu as Required<typeof webgpu>;

/** Numbers with all their bits, so that -0 counts. The sign of a NaN is nobody's. */
const bits = (values: ArrayLike<number>): Uint32Array =>
  new Uint32Array(Float32Array.from(values, (v) => (Number.isNaN(v) ? Number.NaN : v)).buffer);
const read = (s: Storage) => memoryOf("webgpu").read(s as DevicePlace);
const put = (s: Slot, values: Float32Array) => memoryOf("webgpu").write(s as DevicePlace, values);
const flat = (n: number, a: number, b: number) => ({ shape: [n], aStrides: [a], bStrides: [b] });

/** Dispatches of each of four runs: the first goes call by call, from the second on chains are one. */
function dispatchesOf(body: () => void): number[] {
  const gpu = theGpu();
  gpu.flush();
  return [0, 1, 2, 3].map(() => {
    const before = gpu.counts.dispatches;
    body();
    gpu.flush();
    return gpu.counts.dispatches - before;
  });
}

describe.skipIf(noWebGPU !== null)(`chains on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  beforeAll(async () => void (await initWebGPU()));
  afterEach(() => {
    theGpu().fusing = true;
  });

  test("six calls and their numbers are one dispatch from the second meeting on, with the bits that single calls give", async () => {
    const x = randn([1001], { device: "webgpu" });
    const gelu = (t: Tensor) => t.mul(Math.SQRT1_2).erf().add(1).mul(t).mul(0.5);
    const results: Tensor[] = [];
    const counts = dispatchesOf(() => results.push(scope(() => gelu(x))));
    expect(counts).toEqual([8, 1, 1, 1]);
    theGpu().fusing = false;
    const want = bits(await gelu(x).data());
    for (const y of results) expect(bits(await y.data())).toEqual(want);
  });

  test("a call alone stays the shader that it is", async () => {
    const [x, y] = [randn([64], { device: "webgpu" }), randn([64], { device: "webgpu" })];
    const kept: Tensor[] = [];
    expect(dispatchesOf(() => kept.push(x.mul(y)))).toEqual([1, 1, 1, 1]);
    expect(dispatchesOf(() => kept.push(x.sum()))).toEqual(dispatchesOf(() => kept.push(x.sum())));
  });

  test("what is alive is stored, though nothing has read it yet; what was freed is not", async () => {
    const [a, b, c] = [0, 1, 2].map(() => new Storage(8, "float32", "webgpu")) as [Storage, Storage, Storage];
    put(a, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    for (let round = 0; round < 3; round++) {
      put(b, new Float32Array(8).fill(-1));
      const freed = new Storage(8, "float32", "webgpu");
      put(freed, new Float32Array(8).fill(round));
      unary("neg", a, freed);
      unary("square", freed, b);
      unary("neg", b, c);
      freed.release();
      theGpu().flush();
      expect([...(await read(b))]).toEqual([1, 4, 9, 16, 25, 36, 49, 64]);
      expect([...(await read(c))]).toEqual([-1, -4, -9, -16, -25, -36, -49, -64]);
      // Its buffer waits for reuse and holds what was there before.
      const left = await memoryOf("webgpu").read({ block: freed.block!, start: 0, length: 8, dtype: "float32" });
      expect([...left]).toEqual(round === 0 ? [-1, -2, -3, -4, -5, -6, -7, -8] : Array(8).fill(round));
    }
    for (const s of [a, b, c]) s.release();
  });

  test("a tensor beside itself is not two tensors", async () => {
    const [x, y] = [tensor([1, 2, 3], { device: "webgpu" }), tensor([5, 7, 9], { device: "webgpu" })];
    for (let round = 0; round < 3; round++) {
      expect([...(await scope(() => x.mul(y).neg()).data())]).toEqual([-5, -14, -27]);
      expect([...(await scope(() => x.mul(x).neg()).data())]).toEqual([-1, -4, -9]);
    }
  });

  test("a number that is still held is stored, and a tensor that was filled is another value", async () => {
    const x = tensor([1, 2, 3, 4, 5], { device: "webgpu" });
    for (let round = 0; round < 3; round++) {
      const two = tensor([0], { device: "webgpu" }).reshape([]);
      fill(two.storage, 2);
      const y = x.mul(two).mul(x);
      fill(two.storage, 3 + round);
      const z = y.add(two);
      expect([...(await y.data()), ...(await z.data())]).toEqual(
        [2, 8, 18, 32, 50].concat([5, 11, 21, 35, 53].map((v) => v + round)),
      );
      expect([...(await two.data())]).toEqual([3 + round]);
    }
  });

  test("parts of one buffer that overlap, and its first number beside the whole", async () => {
    const n = 12;
    const run = async () => {
      const s = new Storage(n + 4, "float32", "webgpu");
      const y = new Storage(n, "float32", "webgpu");
      put(
        s,
        Float32Array.from({ length: n + 4 }, (_, i) => i - 5),
      );
      const [low, high] = [partOf(s, 0, n), partOf(s, 4, n)];
      unary("square", low, y);
      binary("add", low, y, high, flat(n, 1, 1));
      binary("mul", low, partOf(s, 4, 1), y, flat(n, 1, 0));
      binary("add", high, partOf(s, 4, 1), high, flat(n, 1, 0));
      binary("sub", y, y, low, flat(n, 1, 1));
      addScaled(y, high, 0.5);
      const values = [...bits(await read(s)), ...bits(await read(y))];
      s.release();
      y.release();
      return values;
    };
    theGpu().fusing = false;
    const want = await run();
    theGpu().fusing = true;
    for (let round = 0; round < 3; round++) expect(await run()).toEqual(want);
  });

  test("backward of a chain", async () => {
    const [x, dy] = [randn([37]), randn([37])];
    const gradient = async (device: "cpu" | "webgpu") => {
      const leaf = x.to(device).detach();
      leaf.requiresGrad = true;
      scope(() => leaf.mul(0.7).tanh().mul(leaf).add(leaf.square().mul(-0.25)).backward(dy.to(device)));
      return leaf.grad!.data();
    };
    const want = await gradient("cpu");
    for (let round = 0; round < 3; round++) {
      const got = await gradient("webgpu");
      expect(Math.max(...got.map((v, i) => Math.abs(v - want[i]!)))).toBeLessThan(2e-6);
    }
  });

  test.skipIf(noFloat16 !== null)(`float16 is rounded between calls${noFloat16 ? ` (${noFloat16})` : ""}`, async () => {
    const of = (i: number) => (i % 2 ? -1 : 1) * 2 ** (i / 50 - 24) * (1 + (i % 7) / 7);
    const numbers = Float32Array.from({ length: 2048 }, (_, i) => of(i));
    numbers.set([0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65504, 2 ** -24, 2 ** -14]);
    const x = tensor(numbers).to("webgpu").cast("float16");
    const third = x.mul(0.3);
    const f = () => noGrad(() => scope(() => x.mul(1.001).mul(0.7).add(third).neg().add(third.cast("float32"))));
    theGpu().fusing = false;
    const want = bits(await f().data());
    theGpu().fusing = true;
    for (let round = 0; round < 3; round++) expect(bits(await f().data())).toEqual(want);
  });

  test("random chains: the same bits, whether calls go together or not", { timeout: 240_000 }, async () => {
    const MOST = 4;
    const unaries: readonly UnaryOp[] = ["neg", "square"];
    const binaries: readonly BinaryOp[] = ["add", "mul"];
    const at = fc.nat({ max: MOST - 1 });
    const step = fc.oneof(
      fc.record({ do: fc.constant("unary" as const), op: fc.constantFrom(...unaries), x: at, y: at }),
      fc.record({ do: fc.constant("binary" as const), op: fc.constantFrom(...binaries), x: at, b: at, y: at }),
      fc.record({ do: fc.constant("number" as const), op: fc.constantFrom(...binaries), x: at, y: at, k: at }),
      fc.record({ do: fc.constant("addScaled" as const), x: at, y: at }),
      fc.record({ do: fc.constant("fill" as const), y: at }),
      fc.record({ do: fc.constant("renew" as const), y: at }),
      fc.record({ do: fc.constant("flush" as const) }),
    );
    type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
    const start = Float32Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i + 1)));
    const play = async (n: number, steps: readonly Step[]) => {
      const made = () => new Storage(n, "float32", "webgpu");
      const all = Array.from({ length: MOST }, made);
      for (const [i, s] of all.entries()) put(s, start.slice(i, i + n));
      for (const s of steps) {
        if (s.do === "unary") unary(s.op, all[s.x]!, all[s.y]!);
        else if (s.do === "binary") binary(s.op, all[s.x]!, all[s.b]!, all[s.y]!, flat(n, 1, 1));
        else if (s.do === "number") {
          const number = new Storage(1, "float32", "webgpu");
          fill(number, s.k - 1.5);
          binary(s.op, number, all[s.x]!, all[s.y]!, flat(n, 0, 1));
          number.release();
        } else if (s.do === "addScaled") addScaled(all[s.x]!, all[s.y]!, 0.3);
        else if (s.do === "fill") fill(all[s.y]!, 0.7);
        else if (s.do === "renew") {
          // Its buffer comes back at once, and is filled before anybody reads it.
          all[s.y]!.release();
          all[s.y] = made();
          fill(all[s.y]!, -0.1);
        } else theGpu().flush();
      }
      const values = await Promise.all(all.map(read));
      for (const s of all) s.release();
      return values.flatMap((v) => [...bits(v)]);
    };
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(1, 3, 8, 13, 32),
        fc.array(step, { minLength: 3, maxLength: 24 }),
        async (n, steps) => {
          theGpu().fusing = false;
          const want = await play(n, steps);
          theGpu().fusing = true;
          for (let round = 0; round < 3; round++) expect(await play(n, steps)).toEqual(want);
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });
});
