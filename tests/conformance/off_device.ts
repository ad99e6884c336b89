const mask = "the mask decides the shapes inside";
const float64 = "arithmetic in float64";
const counts = "it reads counts or statistics";
const norms = "it looks for small norms";

/**
 * What does not run on WebGPU, forward and backward, each with its reason: public functions, methods of Tensor and layers. The
 * suites hold it both ways: what stands here throws a DeviceError there, and what does not agrees with the CPU.
 */
export const offDevice: Readonly<Record<string, string>> = {
  ...{ MaskedBatchNorm: mask, MaskedGroupNorm: mask, MaskedInstanceNorm: mask },
  ...{ BatchRenorm: counts, GhostBatchNorm: counts, VirtualBatchNorm: counts, ActNorm: counts, PowerNorm: counts },
  ...{ SwitchableNorm: float64, EvoNormB0: float64, EvoNormS0: float64, MeanVarianceNorm: float64 },
  ...{ GRN: float64, GlobalResponseNorm: float64 },
  ...{ "FilterResponseNorm with a learned eps": norms, UnitNorm: norms, ScaleNorm: norms, "F.normalize": norms },
  InPlaceActivatedBatchNorm: "backward looks for weights of 0",
  spectralNorm: "power iteration in JavaScript",
  "F.adaIN": "the gradient to the style's statistics is computed in JavaScript",
  "F.spectralNorm": "u and v are read",
  "F.crossEntropy with class weights": "it reads targets",
  "Tensor.prod": "backward looks for zeros",
  Checkpoint: "it keeps random states and buffers in the CPU's memory",
};
