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

/** Plain loops in double precision over whatever type the slots have: the oracle, and the float64 backend. */
export const reference: KernelSet = {
  ...elementwise,
  ...activation,
  ...random,
  ...optimizers,
  ...movement,
  ...reduction,
  ...softmax,
  ...pool,
  ...matmul,
  ...conv,
  ...rowNorm,
  ...columnNorm,
  ...dynamicActivation,
};
