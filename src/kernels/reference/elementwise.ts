import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";

export const elementwise: Pick<KernelSet, "fill"> = {
  fill(y, value) {
    heap.view(y).fill(value);
  },
};
