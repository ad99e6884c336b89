// F.*: the functions behind the layers, by PyTorch's names. Each stands beside its layer or in its op's file.
import type { Tensor } from "../autograd/index.js";
import { adaptiveAvgPool, type OutputSize } from "../autograd/ops/adaptive_avg_pool.js";
import { type AvgPoolOptions, avgPool } from "../autograd/ops/avg_pool.js";
import { type ConvOptions, conv } from "../autograd/ops/conv.js";
import { type ConvTransposeOptions, convTranspose } from "../autograd/ops/conv_transpose.js";
import { embedding as embeddingOp } from "../autograd/ops/embedding.js";
import { maxPool } from "../autograd/ops/max_pool.js";
import type { PerAxis, PoolOptions } from "../autograd/ops/windows.js";
import { ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { formatShape, normalizeAxis } from "../base/shape.js";

export { logSoftmax, softmax } from "../autograd/ops/softmax.js";
export { gelu, leakyRelu, relu, sigmoid, silu, tanh } from "./activation.js";
export { dropout } from "./dropout.js";
export { flatten } from "./flatten.js";
export { linear } from "./linear.js";
export { bceWithLogitsLoss } from "./loss/bce_with_logits.js";
export { crossEntropy } from "./loss/cross_entropy.js";
export { huberLoss } from "./loss/huber.js";
export { l1Loss } from "./loss/l1.js";
export { mseLoss } from "./loss/mse.js";
export * from "./norm/functional.js";
export { spectralNormalized as spectralNorm } from "./norm/spectral_norm.js";
export { weightNormalized as weightNorm } from "./norm/weight_norm.js";
export { weightStandardized as weightStandardization } from "./norm/weight_standardization.js";

export type ConvFunctionOptions = ConvOptions & { readonly bias?: Tensor | null };
export type ConvTransposeFunctionOptions = ConvTransposeOptions & { readonly bias?: Tensor | null };

function checkWeight(owner: string, weight: Tensor, axes: number): void {
  if (weight.rank === axes + 2) return;
  throw new ShapeError({
    rule: `${owner} takes a weight with ${axes} kernel ${axes === 1 ? "axis" : "axes"} after the channels, rank ${axes + 2}`,
    got: formatShape(weight.shape),
  });
}

function convFunction(axes: number) {
  const owner = `conv${axes}d`;
  return (x: Tensor, weight: Tensor, options?: ConvFunctionOptions): Tensor => {
    const { bias, ...o } = readOptions(owner, options, {
      ...{ bias: null as Tensor | null, stride: 1 as PerAxis, padding: 0 as PerAxis | "same" | "valid" },
      ...{ dilation: 1 as PerAxis, groups: 1 },
    });
    checkWeight(owner, weight, axes);
    return conv(x, weight, bias, o);
  };
}

/** Convolution of [N, C, L] with weight [O, C / groups, K]. */
export const conv1d = convFunction(1);
/** Convolution of [N, C, H, W] with weight [O, C / groups, KH, KW]. */
export const conv2d = convFunction(2);
/** Convolution of [N, C, D, H, W] with weight [O, C / groups, KD, KH, KW]. */
export const conv3d = convFunction(3);

function convTransposeFunction(axes: number) {
  const owner = `convTranspose${axes}d`;
  return (x: Tensor, weight: Tensor, options?: ConvTransposeFunctionOptions): Tensor => {
    const { bias, ...o } = readOptions(owner, options, {
      ...{ bias: null as Tensor | null, stride: 1 as PerAxis, padding: 0 as PerAxis, outputPadding: 0 as PerAxis },
      ...{ groups: 1, dilation: 1 as PerAxis },
    });
    checkWeight(owner, weight, axes);
    return convTranspose(x, weight, bias, o);
  };
}

/** Transposed convolution of [N, C, L] with weight [C, O / groups, K]. */
export const convTranspose1d = convTransposeFunction(1);
/** Transposed convolution of [N, C, H, W] with weight [C, O / groups, KH, KW]. */
export const convTranspose2d = convTransposeFunction(2);
/** Transposed convolution of [N, C, D, H, W] with weight [C, O / groups, KD, KH, KW]. */
export const convTranspose3d = convTransposeFunction(3);

const maxPoolFunction = (axes: number) => (x: Tensor, kernelSize: PerAxis, options?: PoolOptions) =>
  maxPool(
    x,
    kernelSize,
    axes,
    readOptions(`maxPool${axes}d`, options, {
      ...{ stride: undefined as PerAxis | undefined, padding: 0 as PerAxis, dilation: 1 as PerAxis, ceilMode: false },
    }),
  );

export const maxPool1d = maxPoolFunction(1);
/** Largest element of each window of [N, C, H, W]. */
export const maxPool2d = maxPoolFunction(2);
export const maxPool3d = maxPoolFunction(3);

const avgPoolFunction = (axes: number) => (x: Tensor, kernelSize: PerAxis, options?: AvgPoolOptions) =>
  avgPool(
    x,
    kernelSize,
    axes,
    readOptions(`avgPool${axes}d`, options, {
      ...{ stride: undefined as PerAxis | undefined, padding: 0 as PerAxis, ceilMode: false, countIncludePad: true },
    }),
  );

export const avgPool1d = avgPoolFunction(1);
/** Mean of each window of [N, C, H, W]. */
export const avgPool2d = avgPoolFunction(2);
export const avgPool3d = avgPoolFunction(3);

export const adaptiveAvgPool1d = (x: Tensor, outputSize: OutputSize): Tensor => adaptiveAvgPool(x, outputSize, 1);
/** Average pooling of [N, C, H, W] to a given size. */
export const adaptiveAvgPool2d = (x: Tensor, outputSize: OutputSize): Tensor => adaptiveAvgPool(x, outputSize, 2);
export const adaptiveAvgPool3d = (x: Tensor, outputSize: OutputSize): Tensor => adaptiveAvgPool(x, outputSize, 3);

/** Rows of `weight` by number; the row `paddingIdx` gets no gradient. */
export function embedding(x: Tensor, weight: Tensor, options?: { readonly paddingIdx?: number | null }): Tensor {
  const { paddingIdx } = readOptions("embedding", options, { paddingIdx: null as number | null });
  const row = paddingIdx === null ? null : normalizeAxis(paddingIdx, weight.shape[0] ?? 0, "embedding paddingIdx");
  return embeddingOp(x, weight, row);
}
