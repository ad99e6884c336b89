import { DeviceError } from "../../base/errors.js";

interface Dawn {
  create(flags: string[]): GPU;
  readonly globals: object;
}

/** By the adapter that was named. Dawn ends the process when one is collected while a device of it lives. */
const instances = new Map<string | undefined, GPU>();

/**
 * The WebGPU of this platform, or one line that says why there is none. In Node it is Dawn, from the package `webgpu`.
 * With `adapter` it offers the first adapter whose name has that in it.
 */
export async function findGPU(adapter?: string): Promise<GPU | string> {
  let dawn: Dawn;
  const name = "webgpu";
  try {
    dawn = (await import(name)) as Dawn;
  } catch (error) {
    const missing = (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
    if (missing) return "Dawn, the WebGPU of Node, is not installed: npm install webgpu";
    return `the package webgpu is installed but does not load here (${String(error).split("\n")[0]})`;
  }
  // GPUBufferUsage and its like, which browsers have as globals.
  for (const [key, value] of Object.entries(dawn.globals))
    if (!(key in globalThis)) Object.assign(globalThis, { [key]: value });
  let gpu = instances.get(adapter);
  if (!gpu) {
    gpu = dawn.create(adapter === undefined ? [] : [`adapter=${adapter}`]);
    instances.set(adapter, gpu);
  }
  return gpu;
}

/** What Dawn says when no adapter has the name that was asked for: it lists those there are. */
export function adapterError(error: unknown, adapter: string | undefined): unknown {
  const names = [...String(error).matchAll(/name: '([^']*)'/g)].map(([, name]) => `"${name}"`);
  if (adapter === undefined || names.length === 0) return error;
  return new DeviceError({
    rule: `initWebGPU: adapter names one of this machine: ${names.join(", ")}`,
    got: JSON.stringify(adapter),
  });
}

const drivers: Readonly<Record<string, string>> = {
  linux:
    "Install the GPU's Vulkan driver (apt install mesa-vulkan-drivers, or NVIDIA's) and libvulkan1. Without a GPU a software driver works: on Debian " +
    "apt install chromium libvulkan1, and VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json in the environment",
  darwin: "Metal is needed, which macOS has on every Mac since 2012; virtual machines may lack it",
  win32: "Install the GPU's driver: Direct3D 12 is needed, or Vulkan",
};

/** What to do where no adapter is found. */
export const adapterAdvice = drivers[process.platform] ?? "Install the GPU's Vulkan driver";
