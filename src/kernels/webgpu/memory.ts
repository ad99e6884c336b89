import type { BufferStats } from "./buffers.js";
import { theGpu } from "./device.js";

/**
 * Bytes on the device "webgpu", as `memoryStats` has them of the CPU: of live tensors and their peak, and of all buffers,
 * those kept for reuse included. Throws DeviceError without a device.
 */
export const webgpuMemoryStats = (): BufferStats => theGpu().buffers.stats;

/** Gives the device back what is kept for reuse. Throws DeviceError without a device. */
export const freeWebGPUMemory = (): void => theGpu().buffers.trim();
