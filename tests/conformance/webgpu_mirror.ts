import { inject } from "vitest";
import { DeviceError, UnsupportedKernel } from "../../src/base/errors.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { webgpu } from "../../src/kernels/webgpu/kernels.js";
import type { DevicePlace } from "../../src/memory/device.js";
import { memoryOf } from "../../src/memory/device.js";
import { heap, partOf, type Slot } from "../../src/memory/heap.js";
import { Storage } from "../../src/memory/storage.js";

declare module "vitest" {
  interface ProvidedContext {
    /** Whether a test that would be skipped for want of WebGPU fails instead. */
    requireWebGPU: boolean;
    /** Whether conformance cases run with float16 in the place of float32. */
    float16: boolean;
    /** Of the conformance cases, how many are run: 1 is all, less a sample that is the same each time. */
    share: number;
  }
}

/** Why there is no WebGPU here; null where there is. */
export const noWebGPU: string | null = await initWebGPU().then(
  () => null,
  (error: unknown) => {
    if (error instanceof DeviceError && !inject("requireWebGPU")) return error.message;
    throw error;
  },
);

/** Why there is no float16 here; null where there is. */
export const noFloat16: string | null =
  noWebGPU ?? (theGpu().float16 ? null : "no shader-f16 here; Mesa's software GPU has it from version 25 on");

/**
 * The WebGPU kernels for storages of the CPU: each has a twin on the device, made when a kernel first meets it; `readBack`
 * brings all numbers back.
 */
export class Mirror {
  private readonly twins: { readonly original: Storage; readonly twin: Storage }[] = [];

  /** `known` are all storages that slots may lie in; with `half`, what is float32 among them is float16 on the device. */
  constructor(
    private readonly known: readonly Storage[],
    private readonly half: (s: Storage) => boolean = () => false,
  ) {}

  readonly kernels = Object.fromEntries(
    Object.keys(reference).map((name) => [name, (...args: unknown[]) => this.call(name as keyof KernelSet, args)]),
  ) as unknown as KernelSet;

  private call(name: keyof KernelSet, args: unknown[]): void {
    const kernel = webgpu[name] as ((...args: unknown[]) => void) | undefined;
    if (!kernel) throw new UnsupportedKernel(`webgpu has no ${name}`);
    kernel(...args.map((arg) => this.moved(arg)));
  }

  private moved(value: unknown): unknown {
    if (value === null || typeof value !== "object") return value;
    if ("ptr" in value && "length" in value) return this.twinOf(value as Slot);
    if (Array.isArray(value)) return value.map((item) => this.moved(item));
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.moved(item)]));
  }

  private twinOf(slot: Slot): Slot {
    const holds = ({ ptr, length, dtype }: Storage) =>
      slot.ptr >= ptr &&
      slot.ptr + slot.length * bytes(slot) <= ptr + Math.max(1, length) * bytes({ dtype }) &&
      dtype === slot.dtype;
    const original = this.known.find((s) => s.ptr === slot.ptr && s.length === slot.length) ?? this.known.find(holds)!;
    let pair = this.twins.find((p) => p.original === original);
    if (!pair) {
      const half = original.dtype === "float32" && this.half(original);
      const twin = new Storage(original.length, half ? "float16" : original.dtype, "webgpu");
      if (twin.length > 0) memoryOf("webgpu").write(twin as DevicePlace, heap.view(original));
      pair = { original, twin };
      this.twins.push(pair);
    }
    const start = (slot.ptr - original.ptr) / bytes(slot);
    return start === 0 && slot.length === original.length ? pair.twin : partOf(pair.twin, start, slot.length);
  }

  async readBack(): Promise<void> {
    for (const { original, twin } of this.twins) {
      original.view.set(await memoryOf("webgpu").read(twin as DevicePlace));
    }
  }

  release(): void {
    for (const { twin } of this.twins) twin.release();
  }
}

const bytes = ({ dtype }: { dtype: string }): number => (dtype === "float64" ? 8 : 4);
