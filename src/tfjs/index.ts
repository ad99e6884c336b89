// Normalization layers for TensorFlow.js models: `evenkeel/tfjs`.
export { BatchNormalization, type BatchNormalizationOptions } from "./batch_normalization.js";
export {
  GroupNormalization,
  type GroupNormalizationOptions,
  InstanceNormalization,
  type InstanceNormalizationOptions,
} from "./group_normalization.js";
export type { ConstraintOption, InitializerOption, RegularizerOption } from "./identifiers.js";
export { LayerNormalization, type LayerNormalizationOptions } from "./layer_normalization.js";
export type { LayerOptions } from "./layer_options.js";
export { useKerasNames } from "./names.js";
export { useKernels } from "./normalize.js";
export { RMSNormalization, type RMSNormalizationOptions } from "./rms_normalization.js";
