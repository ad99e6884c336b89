import type { NotFound } from "./found.js";

export const findBlas = (_choice: string): NotFound => ({ reason: "native BLAS works in Node only" });
