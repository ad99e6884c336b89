import { adapterAdvice, findGPU } from "#gpu";
import { DeviceError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { setDeviceMemory } from "../../memory/device.js";
import { setDeviceKernels } from "../dispatch.js";
import { Gpu, setGpu } from "./device.js";
import { webgpu } from "./kernels.js";

export interface WebGPUOptions {
  /** Which of several adapters: "high-performance" (default) or "low-power". */
  readonly powerPreference?: "high-performance" | "low-power";
}

/** What was found. */
export interface WebGPUInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** The largest tensor, in bytes. */
  readonly maxTensorBytes: number;
  /** Whether shaders add up within subgroups. */
  readonly subgroups: boolean;
}

let current: WebGPUInfo | null = null;

/**
 * Makes the device "webgpu" ready: the browser's own WebGPU, or in Node that of the package `webgpu` (Dawn), which Evenkeel does not
 * install by itself. Called again it returns what is there; after the device was lost it makes a new one, but tensors of the old
 * one are gone. Results differ from the CPU's in the last bits, and from device to device.
 *
 * Throws DeviceError with the reason where there is no WebGPU, no adapter, or no device.
 */
export async function initWebGPU(options?: WebGPUOptions): Promise<WebGPUInfo> {
  const { powerPreference } = readOptions("initWebGPU", options, {
    powerPreference: "high-performance" as GPUPowerPreference,
  });
  if (current) return current;
  const found = await findGPU();
  if (typeof found === "string") throw missing(found);
  const adapter = await found.requestAdapter({ powerPreference });
  if (!adapter) throw missing("no adapter was found", adapterAdvice);
  const device = await requestDevice(adapter);
  const gpu = new Gpu(device);
  current = describe(adapter, gpu);
  setGpu(gpu);
  setDeviceMemory("webgpu", gpu);
  setDeviceKernels("webgpu", webgpu);
  void device.lost.then(({ reason, message }) => giveUp(`${reason}${message ? `: ${message}` : ""}`));
  return current;
}

function giveUp(reason: string): void {
  current = null;
  setGpu(null);
  setDeviceMemory("webgpu", null);
  setDeviceKernels("webgpu", null);
  if (!reason.startsWith("destroyed")) console.warn(`evenkeel: the WebGPU device was lost (${reason})`);
}

/** The limits that matter are asked for as large as the adapter has them; what is not asked for stays at a small default. */
function requestDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const names = [
    ...(["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"] as const),
    ...(["maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupSizeX"] as const),
  ];
  const requiredLimits = Object.fromEntries(names.map((name) => [name, adapter.limits[name]]));
  const wanted: GPUFeatureName[] = ["subgroups", "shader-f16", "timestamp-query"];
  const requiredFeatures = wanted.filter((name) => adapter.features.has(name));
  return adapter.requestDevice({ requiredLimits, requiredFeatures });
}

function describe(adapter: GPUAdapter, gpu: Gpu): WebGPUInfo {
  const { vendor, architecture, description } = adapter.info;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const maxTensorBytes = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  return { vendor, architecture, description, maxTensorBytes, subgroups: gpu.subgroups };
}

const missing = (reason: string, fix?: string): DeviceError =>
  new DeviceError({ rule: "WebGPU needs a platform that has it", got: reason, ...(fix ? { fix } : {}) });
