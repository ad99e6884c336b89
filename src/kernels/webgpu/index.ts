// What `evenkeel/webgpu` exports.
export { initWebGPU, type WebGPUInfo, type WebGPUOptions } from "./init.js";
