export { BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from "./batch_norm.js";
export {
  FilterResponseNorm,
  type FilterResponseNormOptions,
  TLU,
  type TLUOptions,
} from "./filter_response_norm.js";
export { FrozenBatchNorm, type FrozenBatchNormOptions } from "./frozen_batch_norm.js";
export { GhostBatchNorm, type GhostBatchNormOptions } from "./ghost_batch_norm.js";
export { GroupNorm, type GroupNormOptions } from "./group_norm.js";
export { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, type InstanceNormOptions } from "./instance_norm.js";
export { LayerNorm, type LayerNormOptions } from "./layer_norm.js";
export { MeanVarianceNorm, type MeanVarianceNormOptions } from "./mean_variance_norm.js";
export { RMSNorm, type RMSNormOptions } from "./rms_norm.js";
export { noStatsUpdate } from "./running_stats.js";
export { ScaleNorm, type ScaleNormOptions } from "./scale_norm.js";
export { UnitNorm, type UnitNormOptions } from "./unit_norm.js";
