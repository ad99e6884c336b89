/** Dawn ends the process when this is collected while a device of it lives. */
let instance: GPU | null = null;

/** The WebGPU of this platform, or one line that says why there is none. In Node it is Dawn, from the package `webgpu`. */
export async function findGPU(): Promise<GPU | string> {
  let dawn: { create(options: string[]): GPU; globals: object };
  const name = "webgpu";
  try {
    dawn = (await import(name)) as typeof dawn;
  } catch (error) {
    const missing = (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
    if (missing) return "Dawn, the WebGPU of Node, is not installed: npm install webgpu";
    return `the package webgpu is installed but does not load here (${String(error).split("\n")[0]})`;
  }
  // GPUBufferUsage and its like, which browsers have as globals.
  for (const [key, value] of Object.entries(dawn.globals))
    if (!(key in globalThis)) Object.assign(globalThis, { [key]: value });
  instance ??= dawn.create([]);
  return instance;
}

/** What to do where no adapter is found. */
export const adapterAdvice =
  "Node finds GPUs by their Vulkan (Linux), Metal or Direct3D 12 drivers. Without a GPU, a software driver works: on Debian " +
  "apt install chromium libvulkan1, and VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json";
