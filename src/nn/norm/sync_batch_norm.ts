import type { Shape } from "../../base/shape.js";
import { SynchronizedBatchNorm, type SynchronizedOptions } from "./synchronized.js";

export type SyncBatchNormOptions = SynchronizedOptions;

/** Batch normalization over the batches of all ranks of a group; with one rank, BatchNorm. */
export class SyncBatchNorm extends SynchronizedBatchNorm {
  constructor(numFeatures: number | Shape, options?: SyncBatchNormOptions) {
    super("SyncBatchNorm", numFeatures, options);
  }
}
