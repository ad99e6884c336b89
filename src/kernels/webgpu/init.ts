import { adapterAdvice, adapterError, findGPU } from "#gpu";
import { DeviceError, StateError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { setDeviceMemory } from "../../memory/device.js";
import { setDeviceKernels } from "../dispatch.js";
import { Gpu, setGpu } from "./device.js";
import { webgpu } from "./kernels.js";
import { findSubgroups } from "./subgroups.js";

export interface WebGPUOptions {
  /** Which of several adapters: "high-performance" (default) or "low-power". */
  readonly powerPreference?: "high-performance" | "low-power";
  /** In Node: the adapter whose name has this in it; a wrong name gets the list of them. In a browser that chooses itself. */
  readonly adapter?: string;
  /** Whether shaders may add up within subgroups, where the device has them. Default true. */
  readonly subgroups?: boolean;
}

/** What was found. */
export interface WebGPUInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** The adapter's own name for itself; browsers may leave it empty. */
  readonly device: string;
  /** The largest tensor, in bytes. */
  readonly maxTensorBytes: number;
  /** Whether shaders add up within subgroups. */
  readonly subgroups: boolean;
  /** Whether shaders compute with float16. */
  readonly shaderF16: boolean;
}

/** What was found, or is being looked for; null while there is no device. */
let current: Promise<WebGPUInfo> | null = null;
/** The adapter that it was asked for by name. */
let named: string | undefined;

/**
 * Makes the device "webgpu" ready: the browser's own WebGPU, or in Node that of the package `webgpu` (Dawn), which Evenkeel does not
 * install by itself. Called again it returns what is there; after the device was lost it makes a new one, but tensors of the old
 * one are gone. Results differ from the CPU's in the last bits, and from device to device.
 *
 * Throws DeviceError with the reason where there is no WebGPU, no adapter, or no device; StateError where another adapter is in use.
 */
export function initWebGPU(options?: WebGPUOptions): Promise<WebGPUInfo> {
  const { powerPreference, adapter, subgroups } = readOptions("initWebGPU", options, {
    powerPreference: "high-performance" as GPUPowerPreference,
    adapter: undefined as string | undefined,
    subgroups: true,
  });
  if (current && adapter !== undefined && adapter !== named) return Promise.reject(another(adapter));
  // One at a time: two calls that wait for each other's adapter would make two devices.
  if (!current) {
    named = adapter;
    current = start(powerPreference, adapter, subgroups).catch((error: unknown) => {
      current = null;
      throw error;
    });
  }
  return current;
}

async function start(
  powerPreference: GPUPowerPreference,
  name: string | undefined,
  subgroups: boolean,
): Promise<WebGPUInfo> {
  const found = await findGPU(name);
  if (typeof found === "string") throw missing(found);
  const adapter = await found.requestAdapter({ powerPreference }).catch((error: unknown) => {
    throw adapterError(error, name);
  });
  if (!adapter) throw missing("no adapter was found", adapterAdvice);
  const device = await requestDevice(adapter).catch((error: Error) => {
    throw missing(`an adapter that gives no device (${error.message})`, adapterAdvice);
  });
  // A device that gives no answer to the question adds up in workgroup memory.
  const gpu = new Gpu(device, subgroups ? await findSubgroups(device, adapter.info).catch(() => null) : null);
  setGpu(gpu);
  setDeviceMemory("webgpu", gpu);
  setDeviceKernels("webgpu", webgpu);
  void device.lost.then(({ reason, message }) => {
    giveUp(`one that was lost${message ? ` (${message})` : ""}`);
    gpu.lose(message);
    if (reason !== "destroyed") console.warn(`evenkeel: the WebGPU device was lost${message ? ` (${message})` : ""}`);
  });
  return describe(adapter, gpu);
}

function giveUp(why: string): void {
  current = null;
  setGpu(null);
  setDeviceMemory("webgpu", null, why);
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
  const { vendor, architecture, description, device } = adapter.info;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const maxTensorBytes = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  const shaderF16 = gpu.device.features.has("shader-f16");
  return { vendor, architecture, description, device, maxTensorBytes, subgroups: gpu.subgroups !== null, shaderF16 };
}

const missing = (reason: string, fix?: string): DeviceError =>
  new DeviceError({ rule: "WebGPU needs a platform that has it", got: reason, ...(fix ? { fix } : {}) });

const another = (adapter: string): StateError =>
  new StateError({
    rule: "There is one WebGPU device at a time",
    got: `adapter ${JSON.stringify(adapter)} while ${named === undefined ? "the platform's own choice" : JSON.stringify(named)} is in use`,
    fix: "Name the adapter when initWebGPU() is called first",
  });
