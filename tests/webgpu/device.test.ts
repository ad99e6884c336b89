import { beforeAll, describe, expect, test } from "vitest";
import { DeviceError, StateError } from "../../src/base/errors.js";
import { capture, matmul, noGrad, randn, scope, type Tensor, tensor, zeros } from "../../src/index.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

describe.skipIf(noWebGPU !== null)(`the device webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  beforeAll(async () => {
    expect(await initWebGPU()).toMatchObject({ maxTensorBytes: expect.any(Number) });
  });

  test("numbers go there and come back, of every type", async () => {
    const x = tensor([1.5, -2, 3]).to("webgpu");
    expect(x.device).toBe("webgpu");
    expect(String(x)).toBe("Tensor([3], float32, webgpu)");
    expect([...(await x.data())]).toEqual([1.5, -2, 3]);
    const whole = tensor([7, -8, 2 ** 31 - 1], { dtype: "int32", device: "webgpu" });
    expect(await whole.data()).toEqual(Int32Array.of(7, -8, 2 ** 31 - 1));
    const exact = tensor([Math.PI, 1e300, -1e-3], { dtype: "float64", device: "webgpu" });
    const [pi, huge, small] = await exact.data();
    expect(Math.abs(pi! - Math.PI)).toBeLessThan(2 ** -46);
    expect(huge).toBe(Number.POSITIVE_INFINITY);
    expect(Math.abs(small! + 1e-3)).toBeLessThan(1e-17);
    expect((await x.toCPU()).dataSync()).toEqual(Float32Array.of(1.5, -2, 3));
    expect(await zeros([0], { device: "webgpu" }).data()).toEqual(new Float32Array(0));
  });

  test("ops compute where their inputs are, numbers beside them too", async () => {
    const [a, b] = [randn([3, 1, 5]), randn([4, 1])];
    const on = (f: (x: typeof a, y: typeof b) => typeof a) => f(a.to("webgpu"), b.to("webgpu"));
    const f = (x: typeof a, y: typeof b) => x.mul(y).add(0.5).tanh().div(2);
    const want = f(a, b).dataSync();
    const got = await on(f).data();
    expect(Math.max(...got.map((v, i) => Math.abs(v - want[i]!)))).toBeLessThan(3e-7);
  });

  test("backward of elementwise ops, and gradients that add up", async () => {
    const w = randn([6]);
    const run = async (device: "cpu" | "webgpu") => {
      const leaf = w.to(device).detach();
      leaf.requiresGrad = true;
      for (const factor of [1, 2])
        leaf
          .square()
          .mul(factor)
          .backward(tensor([1, 2, 3, 4, 5, 6], { device }));
      return [...(await leaf.grad!.data())];
    };
    const [cpu, gpu] = [await run("cpu"), await run("webgpu")];
    for (const [i, v] of gpu.entries()) expect(v).toBeCloseTo(cpu[i]!, 5);
  });

  test("what reads numbers at once says how to do it", () => {
    const x = tensor([1], { device: "webgpu" });
    for (const read of [() => x.item(), () => x.dataSync(), () => x.toArray()]) {
      expect(read).toThrow(DeviceError);
      expect(read).toThrow(/await t\.data\(\)/);
    }
    expect(() => x.to("cpu")).toThrow(/await t\.toCPU\(\)/);
  });

  test("devices do not mix, and what the device lacks is refused by name", () => {
    const [x, y] = [randn([2, 2]), randn([2, 2], { device: "webgpu" })];
    expect(() => x.add(y)).toThrow(/add takes tensors of one device; got b on webgpu beside others on cpu/);
    expect(() => matmul(y, x)).toThrow(DeviceError);
    expect(() => y.cast("float64").exp()).toThrow(/unary on webgpu takes float32/);
    expect(() => tensor([1]).to("gpu" as never)).toThrow(/dtype must be one of/);
    const leaf = tensor([1], { requiresGrad: true });
    expect(() => leaf.mul(2).to("webgpu")).toThrow(StateError);
    expect(noGrad(() => leaf.mul(2)).to("webgpu").device).toBe("webgpu");
  });

  test("capture refuses it", () => {
    const captured = capture(() => tensor([1], { device: "webgpu" }).mul(2));
    captured();
    expect(captured).toThrow(/capture\(\) works on the CPU/);
  });

  test("capture refuses inputs that lie there", () => {
    expect(() => capture((x: Tensor) => x.mul(2))(tensor([1], { device: "webgpu" }))).toThrow(/works on the CPU/);
  });

  test("a scope frees buffers, which are used again; many ops take few submits", async () => {
    const x = randn([1000], { device: "webgpu" });
    const { buffers, counts } = theGpu();
    await theGpu().finish();
    const [live, submits] = [buffers.liveBytes, counts.submits];
    scope(() => {
      let y = x;
      for (let i = 0; i < 100; i++) y = y.add(1);
    });
    expect(buffers.liveBytes).toBe(live);
    await theGpu().finish();
    expect(counts.submits - submits).toBeLessThanOrEqual(3);
  });

  test("a device that is gone says so, and a new one can be made", async () => {
    const x = tensor([1, 2], { device: "webgpu" });
    const { device } = theGpu();
    device.destroy();
    await device.lost;
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(() => x.add(1)).toThrow(DeviceError);
    await expect(x.data()).rejects.toThrow(DeviceError);
    expect(() => tensor([1]).to("webgpu")).toThrow(/initWebGPU/);
    const [one, other] = await Promise.all([initWebGPU(), initWebGPU()]);
    expect(other).toBe(one);
    expect([...(await tensor([1, 2], { device: "webgpu" }).add(1).data())]).toEqual([2, 3]);
  });
});
