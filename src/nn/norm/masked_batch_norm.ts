import type { Tensor } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import { putValid, takeValid } from "../../autograd/ops/compact.js";
import { ShapeError } from "../../base/errors.js";
import { checkChoice } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { checkChannels } from "../../norm/checks.js";
import { compactBatch } from "../../norm/mask.js";
import { BatchNormBase } from "./batch_norm.js";
import { type Mask, type Padded, paddedChoices, readMask } from "./mask.js";
import type { RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export interface MaskedBatchNormOptions extends RunningNormOptions {
  /** The output at padded positions: "zero" (default) or "keep", the input as it came. */
  readonly padded?: Padded;
}

/**
 * Batch normalization of padded sequences: statistics of the valid positions alone, padded ones take no part whatever
 * they hold. forward(x, mask) with x [N, C, L] (any rank and axis) and a mask of x's shape without the channel axis; without
 * a mask all positions are valid.
 */
export class MaskedBatchNorm extends BatchNormBase {
  readonly padded: Padded;

  constructor(numFeatures: number, options?: MaskedBatchNormOptions) {
    super("MaskedBatchNorm", numFeatures, options, { padded: "zero" });
    this.padded = checkChoice("MaskedBatchNorm: padded", options?.padded ?? "zero", paddedChoices);
  }

  override forward(x: Tensor, mask?: Mask | null): Tensor {
    if (mask === undefined || mask === null) return super.forward(x);
    const { axis, eps, numFeatures, running, padded } = this;
    checkChannels("MaskedBatchNorm", x.shape, axis, numFeatures);
    const { plan, count } = compactBatch(readMask("MaskedBatchNorm", mask, x.shape, axis), x.shape, axis);
    const valid = takeValid({ x }, plan).reshape(plan.last ? [count, numFeatures] : [numFeatures, count]);
    const inputs = { x: valid, ...this.affine(Math.max(1, x.shape[0]!)) };
    const along = plan.last ? 1 : 0;
    const put = (values: Tensor) =>
      putValid({ values: values.reshape([plan.size]), base: padded === "keep" ? x : null }, plan);
    if (running && !this.training) return put(batchNormEval(inputs, running, { axis: along, eps }));
    if (count < 2) throw tooFew(count, x);
    const { normalizingVariance: variance } = this.conventions;
    const { out, extra } = batchNorm(inputs, { axis: along, eps, variance });
    this.follow({ statistics: extra, repeat: 1, values: count });
    disposeStatistics(extra);
    return put(out);
  }
}

const tooFew = (count: number, { shape }: Tensor): ShapeError =>
  new ShapeError({
    rule: "MaskedBatchNorm takes batch statistics from more than one valid position",
    got: `${count === 0 ? "none" : "one"} in an input of shape ${formatShape(shape)}`,
    fix: "Skip batches that are all padding, or call eval(), which uses the running statistics",
  });
