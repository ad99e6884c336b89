import { conv } from "./conv.js";
import { matmul } from "./matmul.js";

/** What a native BLAS library computes; it can be called once `setBlas` has found one. */
export const blas = { ...matmul, ...conv };
