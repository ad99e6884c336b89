// Everything under `nn`: layers, losses, initialisers.
export { GELU, type GeluApproximation, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh } from "./activation.js";
export { AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d } from "./adaptive_avg_pool.js";
export { AvgPool1d, AvgPool2d, AvgPool3d, type AvgPoolLayerOptions } from "./avg_pool.js";
export { Checkpoint } from "./checkpoint.js";
export { Conv1d, Conv2d, Conv3d, type ConvLayerOptions } from "./conv.js";
export {
  ConvTranspose1d,
  ConvTranspose2d,
  ConvTranspose3d,
  type ConvTransposeLayerOptions,
} from "./conv_transpose.js";
export { Dropout } from "./dropout.js";
export { Embedding, type EmbeddingOptions } from "./embedding.js";
export { Flatten } from "./flatten.js";
export { Identity } from "./identity.js";
export * as init from "./init.js";
export { Linear, type LinearOptions } from "./linear.js";
export { BCEWithLogitsLoss, type BCEWithLogitsOptions } from "./loss/bce_with_logits.js";
export { CrossEntropyLoss, type CrossEntropyOptions } from "./loss/cross_entropy.js";
export { HuberLoss, type HuberOptions } from "./loss/huber.js";
export { L1Loss } from "./loss/l1.js";
export { MSELoss } from "./loss/mse.js";
export type { Reduction } from "./loss/reduction.js";
export { MaxPool1d, MaxPool2d, MaxPool3d, type MaxPoolLayerOptions } from "./max_pool.js";
export { Module, Parameter, type StateDict, type StateSource } from "./module.js";
export {
  type AttentionOptions,
  type AttentionResult,
  MultiheadAttention,
  type MultiheadAttentionOptions,
} from "./multihead_attention.js";
export * from "./norm/index.js";
export { removeParametrization } from "./norm/parametrize.js";
export { type SpectralNormOptions, spectralNorm } from "./norm/spectral_norm.js";
export * from "./norm/surgery/index.js";
export { type WeightNormOptions, weightNorm } from "./norm/weight_norm.js";
export { type WeightStandardizationOptions, weightStandardization } from "./norm/weight_standardization.js";
export type { PlacementOptions } from "./placement.js";
export { Residual } from "./residual.js";
export { Sequential } from "./sequential.js";
export { LogSoftmax, Softmax } from "./softmax.js";
