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

/** What was found, or is being looked for; null while there is no device. */
let current: Promise<WebGPUInfo> | null = null;

/**
 * Makes the device "webgpu" ready: the browser's own WebGPU, or in Node that of the package `webgpu` (Dawn), which Evenkeel does not
 * install by itself. Called again it returns what is there; after the device was lost it makes a new one, but tensors of the old
 * one are gone. Results differ from the CPU's in the last bits, and from device to device.
 *
 * Throws DeviceError with the reason where there is no WebGPU, no adapter, or no device.
 */
export function initWebGPU(options?: WebGPUOptions): Promise<WebGPUInfo> {
  const { powerPreference } = readOptions("initWebGPU", options, {
    powerPreference: "high-performance" as GPUPowerPreference,
  });
  // One at a time: two calls that wait for each other's adapter would make two devices.
  current ??= start(powerPreference).catch((error: unknown) => {
    current = null;
    throw error;
  });
  return current;
}

async function start(powerPreference: GPUPowerPreference): Promise<WebGPUInfo> {
  const found = await findGPU();
  if (typeof found === "string") throw missing(found);
  const adapter = await found.requestAdapter({ powerPreference });
  if (!adapter) throw missing("no adapter was found", adapterAdvice);
  const device = await requestDevice(adapter).catch((error: Error) => {
    throw missing(`an adapter that gives no device (${error.message})`, adapterAdvice);
  });
  const gpu = new Gpu(device);
  setGpu(gpu);
  setDeviceMemory("webgpu", gpu);
  setDeviceKernels("webgpu", webgpu);
  void device.lost.then(({ reason, message }) => {
    giveUp();
    if (reason !== "destroyed") console.warn(`evenkeel: the WebGPU device was lost${message ? ` (${message})` : ""}`);
  });
  return describe(adapter, gpu);
}

function giveUp(): void {
  current = null;
  setGpu(null);
  setDeviceMemory("webgpu", null);
  setDeviceKernels("webgpu", null);
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
