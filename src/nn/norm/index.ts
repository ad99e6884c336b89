export { ActNorm, type ActNormOptions, type ActNormScale } from "./act_norm.js";
export { AdaIN, type AdaINOptions } from "./ada_in.js";
export { AdaLN, type AdaLNOptions, AdaLNZero, type Body } from "./ada_ln.js";
export { AddLayerNorm, type AddNormResult, AddRMSNorm } from "./add_norm.js";
export { BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from "./batch_norm.js";
export { BatchRenorm, type BatchRenormOptions, type RenormLimit, renormSchedule } from "./batch_renorm.js";
export {
  ConditionalBatchNorm,
  type ConditionalBatchNormOptions,
  type ConditionKind,
} from "./conditional_batch_norm.js";
export { Derf, type DerfOptions, DyT, type DyTOptions } from "./dynamic_activation.js";
export { EvoNormB0, type EvoNormB0Options, EvoNormS0, type EvoNormS0Options } from "./evo_norm.js";
export { FiLM, type FiLMOptions } from "./film.js";
export {
  FilterResponseNorm,
  type FilterResponseNormOptions,
  TLU,
  type TLUOptions,
} from "./filter_response_norm.js";
export { FrozenBatchNorm, type FrozenBatchNormOptions } from "./frozen_batch_norm.js";
export { GhostBatchNorm, type GhostBatchNormOptions } from "./ghost_batch_norm.js";
export { GRN, GRN as GlobalResponseNorm, type GRNOptions } from "./global_response_norm.js";
export { GroupNorm, type GroupNormOptions } from "./group_norm.js";
export { InPlaceActivatedBatchNorm, type InPlaceActivatedBatchNormOptions } from "./in_place_activated_batch_norm.js";
export { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, type InstanceNormOptions } from "./instance_norm.js";
export { LayerNorm, type LayerNormOptions } from "./layer_norm.js";
export { LayerNorm2d, type LayerNorm2dOptions } from "./layer_norm_2d.js";
export { LocalResponseNorm, type LocalResponseNormOptions, MapLRN, type MapLRNOptions } from "./local_response_norm.js";
export type { Mask, NestedMask, Padded } from "./mask.js";
export { MaskedBatchNorm, type MaskedBatchNormOptions } from "./masked_batch_norm.js";
export { MaskedGroupNorm, type MaskedGroupNormOptions, MaskedInstanceNorm } from "./masked_group_norm.js";
export { MeanVarianceNorm, type MeanVarianceNormOptions } from "./mean_variance_norm.js";
export { PowerNorm, type PowerNormOptions } from "./power_norm.js";
export { RMSNorm, type RMSNormOptions } from "./rms_norm.js";
export { noStatsUpdate } from "./running_stats.js";
export { ScaleNorm, type ScaleNormOptions } from "./scale_norm.js";
export { SPADE, type SPADEOptions } from "./spade.js";
export { SwitchableNorm, type SwitchableNormOptions } from "./switchable_norm.js";
export { SyncBatchNorm, type SyncBatchNormOptions } from "./sync_batch_norm.js";
export {
  type AffineGradients,
  type ReducedGradients,
  reducedGradients,
  type SynchronizedOptions,
} from "./synchronized.js";
export { UnitNorm, type UnitNormOptions } from "./unit_norm.js";
export { VirtualBatchNorm, type VirtualBatchNormOptions } from "./virtual_batch_norm.js";
