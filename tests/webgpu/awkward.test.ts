import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { DeviceError, OutOfMemoryError, StateError } from "../../src/base/errors.js";
import { matmul, nn, randn, scope, type Tensor, tensor, zeros } from "../../src/index.js";
import { run, theGpu } from "../../src/kernels/webgpu/device.js";
import { findGPU as findInBrowser } from "../../src/kernels/webgpu/find_browser.js";
import { findGPU } from "../../src/kernels/webgpu/find_node.js";
import { freeWebGPUMemory, initWebGPU, webgpuMemoryStats } from "../../src/kernels/webgpu/index.js";
import type { Program } from "../../src/kernels/webgpu/program.js";
import { Storage } from "../../src/memory/storage.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

const onGpu = (values: number[]) => tensor(values, { device: "webgpu" });
/** What was thrown, by an async body too. */
const thrownBy = async (body: () => unknown): Promise<Error> => {
  try {
    await body();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
};

describe.skipIf(noWebGPU !== null)(`awkward places on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  beforeAll(async () => {
    process.on("unhandledRejection", note);
    await initWebGPU();
    return () => void process.off("unhandledRejection", note);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(unhandled).toEqual([]);
  });

  test("limits and features are asked for as the adapter has them", async () => {
    const adapter = await ((await findGPU()) as GPU).requestAdapter();
    const { limits, features } = theGpu().device;
    for (const name of [
      ...(["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"] as const),
      ...(["maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup"] as const),
    ]) {
      expect([name, limits[name]]).toEqual([name, adapter!.limits[name]]);
    }
    const info = await initWebGPU();
    expect(info.maxTensorBytes).toBe(Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize));
    expect(info.shaderF16).toBe(features.has("shader-f16"));
    expect(info.device).toBe(adapter!.info.device);
  });

  test("a tensor larger than the device takes: the limit, the shape and the op are named", async () => {
    const { maxTensorBytes } = await initWebGPU();
    const n = Math.ceil(Math.sqrt(maxTensorBytes / 4)) + 1;
    expect(() => zeros([n, n], { device: "webgpu" })).toThrow(DeviceError);
    expect(() => zeros([n, n], { device: "webgpu" })).toThrow(
      new RegExp(
        `up to ${maxTensorBytes} bytes \\(max.*\\); got ${4 * n * n} bytes for \\[${n}, ${n}\\] float32\\. Use`,
      ),
    );
    const column = randn([n, 1], { device: "webgpu" });
    expect(() => matmul(column, column.transpose())).toThrow(new RegExp(`for \\[${n}, ${n}\\] float32 in matmul\\.`));
    const leaf = randn([n, 1], { device: "webgpu", requiresGrad: true });
    expect(() => leaf.expand([n, n]).sum()).toThrow(/float32 in expand/);
    // What failed leaves nothing behind, and the device goes on.
    expect([...(await onGpu([1, 2]).add(1).data())]).toEqual([2, 3]);
  });

  test("readings: twice, in parallel, of freed tensors, and before what changes the tensor next", async () => {
    const x = onGpu([1, 2, 3]);
    expect(await x.data()).toEqual(await x.data());
    const many = Array.from({ length: 50 }, (_, i) => x.add(i));
    const submits = theGpu().counts.submits;
    const read = await Promise.all(many.map((t) => t.data()));
    expect(read.map(([first]) => first)).toEqual(many.map((_, i) => i + 1));
    expect(theGpu().counts.submits - submits).toBeLessThanOrEqual(2);

    const before = x.data();
    x.assign([7, 8, 9]);
    const between = x.data();
    x.dispose();
    // Its buffer is taken again at once.
    const next = onGpu([-1, -1, -1]);
    expect([...(await before), ...(await between), ...(await next.data())]).toEqual([1, 2, 3, 7, 8, 9, -1, -1, -1]);
    x.dispose();
    await expect(x.data()).rejects.toThrow(StateError);
    await expect(x.toCPU()).rejects.toThrow(StateError);
  });

  test("assign copies on the device, and from the CPU; from the device to the CPU it says how", async () => {
    const [a, b] = [onGpu([1, 2]), onGpu([3, 4])];
    a.assign(b);
    b.assign([5, 6]);
    a.assign(a);
    expect([...(await a.data()), ...(await b.data())]).toEqual([3, 4, 5, 6]);
    expect([...(await a.assign(tensor([8, 9])).data())]).toEqual([8, 9]);
    expect(() => tensor([0, 0]).assign(a)).toThrow(/await t\.data\(\)/);
    expect(() => a.assign(onGpu([1]))).toThrow(/2 numbers/);
  });

  test("memory: live and peak bytes, and what is kept for reuse given back while commands wait", async () => {
    freeWebGPUMemory();
    const before = webgpuMemoryStats();
    const kept = scope(() => randn([1000], { device: "webgpu" }).add(1).mul(2));
    const after = webgpuMemoryStats();
    expect(after.liveBytes - before.liveBytes).toBe(4096);
    expect(after.liveBlocks - before.liveBlocks).toBe(1);
    expect(after.peakBytes).toBeGreaterThanOrEqual(before.liveBytes + 2 * 4096);
    expect(after.reservedBytes).toBeGreaterThan(after.liveBytes);
    freeWebGPUMemory();
    expect(webgpuMemoryStats().reservedBytes).toBe(webgpuMemoryStats().liveBytes);
    expect((await kept.data()).every(Number.isFinite)).toBe(true);
    kept.dispose();
  });

  test("no room on the device: a typed error at the next reading, and the device goes on", async () => {
    const { device } = theGpu();
    const make = device.createBuffer.bind(device);
    vi.spyOn(device, "createBuffer").mockImplementation((d) =>
      // The largest buffer there may be is more than the software devices have room for.
      make(d.size === 3 << 20 ? { ...d, size: device.limits.maxBufferSize } : d),
    );
    const x = zeros([(3 << 20) / 4], { device: "webgpu" });
    const y = x.add(1).sum();
    const error = await thrownBy(() => y.data());
    expect(error).toBeInstanceOf(OutOfMemoryError);
    expect(error.message).toMatch(/webgpu must have room.*a request for 3\.0 MiB with .* alive/);
    // The tensor stays one that holds nothing.
    expect(() => x.sum()).toThrow(OutOfMemoryError);
    await expect(x.data()).rejects.toThrow(OutOfMemoryError);
    x.dispose();
    vi.restoreAllMocks();
    const again = zeros([(3 << 20) / 4], { device: "webgpu" });
    expect([...(await again.add(1).sum().data())]).toEqual([(3 << 20) / 4]);
  });

  test("what the device refuses names the shader, its operands and their sizes", async () => {
    const broken = (code: string): Program => ({
      ...{ name: "crooked", operands: { y: { access: "write" } }, parameters: {}, lanes: 64, code },
    });
    const y = new Storage(64, "float32", "webgpu");
    run(broken("fn run(group: u32, lane: u32) { y_set(lane, nothing); }"), { operands: { y }, groups: 1 });
    const first = await thrownBy(() => theGpu().finish());
    expect(first).toBeInstanceOf(DeviceError);
    expect(first.message).toMatch(/crooked/);
    const { device } = theGpu();
    const bind = device.createBindGroup.bind(device);
    const [a, b] = [onGpu([1, 2]), onGpu([3, 4])];
    vi.spyOn(device, "createBindGroup").mockImplementationOnce((d) => bind({ ...d, entries: [...d.entries].slice(1) }));
    const second = await thrownBy(() => a.sub(b).data());
    expect(second).toBeInstanceOf(DeviceError);
    expect(second.message).toMatch(/binary\(a: 256 bytes, b: 256 bytes, y: 256 bytes\)/);
    const { buffer } = a.storage.block as unknown as { buffer: GPUBuffer };
    buffer.destroy();
    expect(await thrownBy(() => a.add(b).data())).toBeInstanceOf(DeviceError);
    expect([...(await b.add(b).data())]).toEqual([6, 8]);
    y.release();
  });

  test("devices mixed in one op, in a layer and in a loss", () => {
    const layer = new nn.Linear(2, 3, { device: "webgpu" });
    expect(() => layer.forward(randn([4, 2]))).toThrow(/linear takes tensors of one device; got weight on webgpu.*cpu/);
    const [y, target] = [randn([4, 3], { device: "webgpu" }), randn([4, 3])];
    expect(() => new nn.MSELoss().forward(y, target)).toThrow(DeviceError);
  });

  test("the device lost while tensors exist and in the middle of a reading; a new one takes over", async () => {
    const x = onGpu([1, 2]);
    const y = x.add(1);
    const reading = y.data();
    theGpu().device.destroy();
    const error = await thrownBy(() => reading);
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/a device that was lost/);
    // At once, without waiting for anything else.
    await initWebGPU();
    for (const use of [() => x.add(1), () => x.add(onGpu([1, 2])), () => x.data(), () => x.toCPU()]) {
      expect(await thrownBy(use)).toBeInstanceOf(DeviceError);
    }
    expect(await thrownBy(() => x.assign([3, 4]))).toBeInstanceOf(DeviceError);
    expect(await thrownBy(() => onGpu([3, 4]).assign(x))).toBeInstanceOf(DeviceError);
    const layer = new nn.Linear(2, 2, { device: "webgpu" });
    expect(() => layer.forward(x.reshape([1, 2]))).toThrow(DeviceError);
    // Buffers of the old device are not those of the new one, however many there are.
    const fresh = Array.from({ length: 100 }, (_, i) => onGpu([i, i]));
    const sums: Tensor[] = fresh.map((t) => t.add(t));
    for (const [i, t] of sums.entries()) expect([...(await t.data())]).toEqual([2 * i, 2 * i]);
    x.dispose();
    y.dispose();
  });

  test("a device that goes while something waits for it to finish", async () => {
    onGpu([1, 2]).add(1);
    const waiting = theGpu().finish();
    theGpu().device.destroy();
    // Work that was done already may have been told so.
    await waiting.catch((error: unknown) => expect(error).toBeInstanceOf(DeviceError));
    await new Promise((resolve) => setTimeout(resolve, 5));
    await initWebGPU();
  });

  test("adapters by name", async () => {
    const { device } = theGpu();
    await expect(initWebGPU({ adapter: "another" })).rejects.toThrow(StateError);
    device.destroy();
    await device.lost;
    const error = await thrownBy(() => initWebGPU({ adapter: "no such adapter" }));
    expect(error).toBeInstanceOf(DeviceError);
    const [, name] = /adapter names one of this machine: "([^"]+)".*got "no such adapter"/.exec(error.message) ?? [];
    expect(name).toBeTruthy();
    expect((await initWebGPU({ adapter: name! })).maxTensorBytes).toBeGreaterThan(0);
    expect([...(await onGpu([1]).add(1).data())]).toEqual([2]);
    await expect(findInBrowser("any")).rejects.toThrow(/it is the browser that chooses/);
  });
});
