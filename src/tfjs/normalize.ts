import { getBackend } from "@tensorflow/tfjs-core";
import { checkBoolean } from "../base/options.js";
import { normalizeComposed } from "./composed.js";
import { normalizeOnHeap, readsAtOnce } from "./on_heap.js";
import type { Normalized, NormRequest } from "./plan.js";

let wanted = true;

/**
 * False: layers compute with TensorFlow.js's ops on every backend. True, as it is at the start: with Evenkeel's kernels on
 * the backends cpu and wasm. Returns what held before.
 */
export function useKernels(on: boolean): boolean {
  const before = wanted;
  wanted = checkBoolean("useKernels", on);
  return before;
}

/** y = gamma * (x - mean) / sqrt(variance + eps) + beta, differentiable by x, gamma and beta. */
export function normalize(request: NormRequest): Normalized {
  return wanted && readsAtOnce(getBackend()) ? normalizeOnHeap(request) : normalizeComposed(request);
}
