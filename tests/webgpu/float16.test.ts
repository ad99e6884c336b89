import { beforeAll, describe, expect, test } from "vitest";
import { DTypeError } from "../../src/base/errors.js";
import { Random } from "../../src/base/random.js";
import { F, nn, optim, randn, type Tensor, tensor, where, zeros } from "../../src/index.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { fromHalf, toHalf } from "../../src/kernels/webgpu/numbers.js";
import { partOf } from "../../src/memory/heap.js";
import { relativeError, rounded } from "../conformance/harness.js";
import { noFloat16, noWebGPU } from "../conformance/webgpu_mirror.js";

const half = { dtype: "float16", device: "webgpu" } as const;
const HALF_STEP = 2 ** -11;

test("float16 on the CPU is refused, with what to do", () => {
  for (const make of [
    () => zeros([2], { dtype: "float16" }),
    () => tensor([1], { dtype: "float16" }),
    () => tensor([1]).cast("float16"),
    () => new nn.Linear(2, 2).to("float16"),
  ]) {
    expect(make).toThrow(DTypeError);
    expect(make).toThrow(/float16 tensors live on a "webgpu" device.*t\.to\("webgpu"\)\.cast\("float16"\)/);
  }
});

test.skipIf(noWebGPU !== null || noFloat16 === null)("float16 on a device without shader-f16 is refused", () => {
  expect(() => tensor([1], half)).toThrow(/shader-f16; got one on webgpu, whose device lacks it\. Use float32/);
});

describe.skipIf(noFloat16 !== null)(`float16${noFloat16 ? ` (${noFloat16})` : ""}`, () => {
  beforeAll(async () => {
    await initWebGPU();
  });

  test("float16 there and back: all halves keep their bits, of every length and start", async () => {
    const all = Float32Array.from({ length: 65_536 }, (_, bits) => fromHalf(bits));
    const t = tensor(all, half);
    expect(String(t)).toBe("Tensor([65536], float16, webgpu)");
    const bits = (v: ArrayLike<number>) => Uint16Array.from(v, toHalf);
    const back = await t.data();
    expect(back).toBeInstanceOf(Float32Array);
    expect(bits(back)).toEqual(bits(all));
    for (const n of [0, 1, 2, 3, 5, 8]) {
      const few = tensor(all.subarray(15_360, 15_360 + n), half);
      expect([...(await few.data())]).toEqual([...all.subarray(15_360, 15_360 + n)]);
      expect((await few.toCPU()).dtype).toBe("float32");
    }
    for (const [start, n] of [
      [1, 3],
      [2, 5],
      [7, 8],
    ] as const) {
      const { block, start: at, length, dtype } = partOf(t.storage, 15_360 + start, n);
      const place = { block: block!, start: at!, length, dtype };
      expect([...(await theGpu().read(place))]).toEqual([...all.subarray(15_360 + start, 15_360 + start + n)]);
    }
  });

  test("float16 by cast: rounded to the nearest, ties to even, as JavaScript's own conversion does", async () => {
    const random = new Random(3);
    const values = new Float32Array(40_000);
    for (let i = 0; i < values.length; i++) {
      const low = fromHalf(Math.floor(random.uniform() * 0x7bff));
      const high = fromHalf(toHalf(low) + 1);
      const middle = (low + high) / 2;
      // Ties, what lies beside them, and anything between; normal halves, since GPUs may take subnormal ones for 0.
      const choice = i % 4;
      const v =
        choice === 0
          ? middle
          : choice === 3
            ? low + (high - low) * random.uniform()
            : middle * (1 + (choice - 1.5) * 2 ** -20);
      values[i] = Math.max(2 ** -14, Math.min(65_519, v)) * (i % 8 < 4 ? 1 : -1);
    }
    const got = await tensor(values, { device: "webgpu" }).cast("float16").cast("float32").data();
    expect(got.filter((v, i) => v !== rounded(values[i]!))).toHaveLength(0);
    const edges = await tensor([65_519, 65_520, 1e9, -1e9, Number.NaN], { device: "webgpu" }).cast("float16").data();
    const infinity = Number.POSITIVE_INFINITY;
    expect([...edges]).toEqual([65_504, infinity, infinity, -infinity, Number.NaN]);
  });

  test("float16 types: what meets what gives what", async () => {
    const [h, f, i] = [
      randn([3, 4], half),
      randn([3, 4], { device: "webgpu" }),
      tensor([1, 2, 3, 4]).cast("int32").to("webgpu"),
    ];
    expect(h.add(h).dtype).toBe("float16");
    expect(h.add(f).dtype).toBe("float32");
    expect(f.mul(h).dtype).toBe("float32");
    expect(h.mul(i).dtype).toBe("float16");
    expect(h.mul(0.1).dtype).toBe("float16");
    expect(h.sum().mul(3).dtype).toBe("float16");
    expect(h.greater(0).dtype).toBe("float16");
    expect(where(h.greater(0), h, 0).dtype).toBe("float16");
    expect(h.matmul(f.transpose()).dtype).toBe("float32");
    expect(h.matmul(h.transpose()).dtype).toBe("float16");
    expect(h.sum(0, { dtype: "float32" }).dtype).toBe("float32");
    expect(h.cast("float64").dtype).toBe("float64");
    // A number beside float16 is not rounded to it first: 0.1 would come out 2.4e-4 off.
    const x = Array.from(await h.data());
    expect([...(await h.mul(0.1).data())]).toEqual(x.map((v) => rounded(Math.fround(Math.fround(0.1) * v))));
    expect([...(await h.add(h).mul(h).data())].length).toBe(12);
  });

  test("float16 sums are taken in float32: a mean of many, a variance of large ones", async () => {
    const ones = zeros([300_000], half).add(1);
    expect([...(await ones.mean().data())]).toEqual([1]);
    expect([...(await ones.sum().data())]).toEqual([Number.POSITIVE_INFINITY]);
    expect([...(await ones.sum(undefined, { dtype: "float32" }).data())]).toEqual([300_000]);
    const large = tensor([60_000, -60_000, 59_008], half);
    expect([...(await large.mean().data())]).toEqual([rounded(59_008 / 3)]);
    expect([...(await large.variance().data())]).toEqual([Number.POSITIVE_INFINITY]);
    const smaller = tensor([60_000, -60_000, 59_008]).div(512);
    expect([...(await large.div(512).variance().data())]).toEqual([rounded(smaller.variance().item())]);
  });

  test("float16 losses are float32, and their gradients float16", async () => {
    const x = randn([5, 7], { ...half, requiresGrad: true });
    const target = tensor([0, 6, 2, 2, 5]).cast("int32").to("webgpu");
    const other = randn([5, 7], half);
    const values = (await x.data()).slice();
    for (const loss of [
      (t: Tensor, y: Tensor, _o: Tensor) => F.crossEntropy(t, y),
      (t: Tensor, _y: Tensor, o: Tensor) => F.mseLoss(t.mul(300), o),
      (t: Tensor, _y: Tensor, o: Tensor) => F.l1Loss(t, o),
      (t: Tensor, _y: Tensor, o: Tensor) => F.huberLoss(t, o),
      (t: Tensor, _y: Tensor, o: Tensor) => F.bceWithLogitsLoss(t, o.greater(0)),
    ]) {
      x.grad = null;
      const got = loss(x, target, other);
      expect(got.dtype).toBe("float32");
      got.backward();
      expect(x.grad!.dtype).toBe("float16");
      const leaf = tensor(Float64Array.from(values), { shape: [5, 7], requiresGrad: true });
      const on = tensor(Float64Array.from(await other.data()), { shape: [5, 7] });
      const want = loss(leaf, await target.toCPU(), on);
      want.backward();
      // 300 x is rounded to float16 on its way.
      expect(Math.abs((await got.data())[0]! / want.item() - 1)).toBeLessThan(3e-4);
      expect(relativeError(await x.grad!.data(), leaf.grad!.dataSync())).toBeLessThan(2 * HALF_STEP);
    }
  });

  test("float16 through layers of float32: results and dx in float16, the layer's gradients in float32", async () => {
    const layers: [nn.Module, number[]][] = [
      [new nn.Linear(5, 3), [7, 5]],
      [new nn.Linear(5, 3, { bias: false }), [2, 4, 5]],
      [new nn.Conv2d(3, 4, 3, { padding: 1 }), [2, 3, 5, 7]],
      [new nn.ConvTranspose2d(3, 4, 3, { stride: 2 }), [2, 3, 5, 7]],
      [new nn.BatchNorm2d(3), [4, 3, 5, 7]],
      [new nn.GroupNorm(3, 6), [4, 6, 5]],
      [new nn.LayerNorm(9), [4, 9]],
      [new nn.InstanceNorm1d(3, { affine: true }), [4, 3, 11]],
      [new nn.RMSNorm(9), [4, 9]],
      [new nn.DyT(9), [4, 9]],
    ];
    for (const [layer, shape] of layers) {
      const name = layer.constructor.name;
      const own = layer.parameters();
      const state = own.map((p) => Float64Array.from(p.dataSync()));
      const x = randn(shape, { ...half, requiresGrad: true });
      const dy32 = randn((layer.forward(zeros(shape)) as Tensor).shape);
      layer.to("webgpu");
      const y = layer.forward(x);
      const dy = dy32.to("webgpu").cast("float16");
      expect(y.dtype, name).toBe("float16");
      y.backward(dy);
      expect(x.grad!.dtype, name).toBe("float16");
      const got = [await y.data(), await x.grad!.data(), ...(await Promise.all(own.map((p) => p.grad!.data())))];
      for (const p of own) expect(p.grad!.dtype, name).toBe("float32");
      await layer.toCPU();
      layer.to("float64").zeroGrad();
      for (const [i, p] of own.entries()) p.assign(state[i]!);
      const exact = tensor(Float64Array.from(await x.data()), { shape, requiresGrad: true });
      const z = layer.forward(exact);
      z.backward(tensor(Float64Array.from(await dy.data()), { shape: z.shape }));
      const want = [z.dataSync(), exact.grad!.dataSync(), ...own.map((p) => p.grad!.dataSync())];
      for (const [i, v] of got.entries()) {
        // dy and y of half digits, gradients of the layer of all of float32's.
        // A transposed convolution is rounded before its bias is added, too.
        const steps = name === "ConvTranspose2d" && i === 0 ? 2 : 1;
        const limit = i < 2 ? steps * HALF_STEP + 1e-6 : 2e-6;
        expect(relativeError(v, want[i]!), `${name}, output ${i}`).toBeLessThan(limit);
      }
    }
  });

  test("float16 models infer, and are refused by optimizers; statistics stay float32", async () => {
    const model = new nn.Sequential(new nn.Linear(4, 8), new nn.BatchNorm1d(8), new nn.ReLU(), new nn.Linear(8, 2));
    const x = randn([16, 4]);
    const want = model.eval().forward(x).dataSync();
    model.to("webgpu").to("float16");
    expect(new Set(model.parameters().map((p) => p.dtype))).toEqual(new Set(["float16"]));
    expect(
      model
        .buffers()
        .filter((b) => b.device === "webgpu")
        .map((b) => b.dtype),
    ).toEqual(["float32", "float32"]);
    const y = model.forward(x.to("webgpu").cast("float16"));
    expect(relativeError(await y.data(), want)).toBeLessThan(4 * HALF_STEP);
    y.sum().backward();
    expect(model.parameters()[0]!.grad!.dtype).toBe("float16");
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
    expect(() => optimizer.step()).toThrow(/SGD moves parameters by less.*Keep the model in float32/);
    await model.toCPU();
    expect(model.parameters()[0]!.dtype).toBe("float32");
    expect(() => new nn.Linear(2, 2, { dtype: "float16" })).toThrow(/Make it in float32/);
  });
});
