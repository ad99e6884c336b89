// What `evenkeel/webgpu` exports.
export type { BufferStats as WebGPUMemoryStats } from "./buffers.js";
export { initWebGPU, type WebGPUInfo, type WebGPUOptions } from "./init.js";
export { freeWebGPUMemory, webgpuMemoryStats } from "./memory.js";
