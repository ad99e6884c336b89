import type { DType, NumberArray } from "../base/dtype.js";
import { DeviceError, DTypeError } from "../base/errors.js";

/** Where tensors live and ops compute. The CPU's memory is the heap; other devices bring memory of their own. */
export type DeviceName = "cpu" | "webgpu";

/** A block of a device's own memory; what it is, the device knows. */
export interface DeviceBlock {
  readonly device: DeviceName;
  readonly bytes: number;
  free(): void;
}

/** Elements of a block. */
export interface DevicePlace {
  readonly block: DeviceBlock;
  readonly start: number;
  readonly length: number;
  readonly dtype: DType;
}

/** The memory of a device other than the CPU. float64 takes 8 bytes an element in whatever form the device computes with. */
export interface DeviceMemory {
  /** Whether it holds float16. */
  readonly float16: boolean;
  /**
   * Throws DeviceError where one block cannot be that large. That the device has no room it may only tell later: whatever
   * meets the block then, and the next reading, throws OutOfMemoryError.
   */
  allocate(bytes: number): DeviceBlock;
  write(to: DevicePlace, values: NumberArray): void;
  /** Between places of the same length and type. */
  copy(from: DevicePlace, to: DevicePlace): void;
  /** After all that was asked of the device before. */
  read(from: DevicePlace): Promise<NumberArray>;
}

const memories = new Map<DeviceName, DeviceMemory>();
/** Why a device that was there is gone. */
const losses = new Map<DeviceName, string>();
let current: DeviceName = "cpu";

/** Where new storages are made and kernels run: the device of the op that is at work. */
export const currentDevice = (): DeviceName => current;

/** Returns what it was, for callers that put it back themselves. */
export function setDevice(device: DeviceName): DeviceName {
  const before = current;
  current = device;
  return before;
}

/** Runs `body` with storages and kernels of `device`. */
export function onDevice<T>(device: DeviceName, body: () => T): T {
  if (device === current) return body();
  const before = setDevice(device);
  try {
    return body();
  } finally {
    current = before;
  }
}

/** Makes a device's memory known, or forgets it and remembers why it is gone. */
export function setDeviceMemory(device: DeviceName, memory: DeviceMemory | null, why = ""): void {
  if (memory) memories.set(device, memory);
  else memories.delete(device);
  losses.set(device, why);
}

export function memoryOf(device: DeviceName): DeviceMemory {
  const memory = memories.get(device);
  if (memory) return memory;
  throw new DeviceError({
    rule: `The device "${device}" must be there before it is used`,
    got: losses.get(device) || "none",
    fix: 'import { initWebGPU } from "evenkeel/webgpu", and await initWebGPU() first',
  });
}

/** Throws DTypeError where a device has no float16. */
export function checkFloat16(device: DeviceName): void {
  if (device !== "cpu" && memoryOf(device).float16) return;
  throw new DTypeError({
    rule: 'float16 tensors live on a "webgpu" device that has the feature shader-f16',
    got: device === "cpu" ? "one on the CPU" : `one on ${device}, whose device lacks it`,
    fix: device === "cpu" ? 'Move it first, t.to("webgpu").cast("float16"), or use float32' : "Use float32",
  });
}

/** What reading numbers in JavaScript, or a CPU kernel, meets on a tensor of another device. */
export const notOnTheHeap = (device: DeviceName): DeviceError =>
  new DeviceError({
    rule: "Only tensors on the CPU can be read and written at once",
    got: `one on ${device}`,
    fix: "Use await t.data()",
  });
