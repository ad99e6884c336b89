import type { KernelSet } from "../kernel_set.js";
import { activation } from "./activation.js";
import { elementwise } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { movement } from "./movement.js";

/** The kernels that there are on WebGPU. What is missing, or throws UnsupportedKernel, is refused with a DeviceError. */
export const webgpu: Partial<KernelSet> = {
  ...elementwise,
  ...activation,
  ...movement,
  ...matmul,
};
