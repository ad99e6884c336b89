import type { KernelSet } from "../kernel_set.js";
import { activation } from "./activation.js";
import { columnNorm } from "./column_norm.js";
import { conv } from "./conv.js";
import { dynamicActivation } from "./dynamic_activation.js";
import { elementwise } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { movement } from "./movement.js";
import { optimizers } from "./optimizers.js";
import { pool } from "./pool.js";
import { random } from "./random.js";
import { reduction } from "./reduction.js";
import { rowNorm } from "./row_norm.js";
import { softmax } from "./softmax.js";

/** The kernels that there are on WebGPU. What is missing, or throws UnsupportedKernel, is refused with a DeviceError. */
export const webgpu: Partial<KernelSet> = {
  ...activation,
  ...conv,
  ...dynamicActivation,
  ...elementwise,
  ...matmul,
  ...movement,
  ...columnNorm,
  ...optimizers,
  ...pool,
  ...random,
  ...reduction,
  ...rowNorm,
  ...softmax,
};
