import { isTraced, type Tensor, where } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import { columnMoments, standardize } from "../../autograd/ops/column_parts.js";
import { putValid, takeValid } from "../../autograd/ops/compact.js";
import { checkInputs } from "../../autograd/ops/fused_norm.js";
import { maskedMoments, validCounts } from "../../autograd/ops/masked_moments.js";
import { normalizeBesideGroup } from "../../autograd/ops/sync_batch_norm.js";
import { ShapeError } from "../../base/errors.js";
import { checkChoice } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { compactBatch } from "../../norm/mask.js";
import { besselFactor } from "../../norm/moments.js";
import { batchView, type ColumnView } from "../../norm/views.js";
import { type Mask, maskBeside, type Padded, paddedChoices, readMask } from "./mask.js";
import { disposeStatistics } from "./running_stats.js";
import { SynchronizedBatchNorm, type SynchronizedOptions } from "./synchronized.js";

export interface MaskedBatchNormOptions extends SynchronizedOptions {
  /**
   * The output at padded positions: "zero" (default); "keep", the input as it came; or "normalize", by the statistics of
   * the valid ones, which is what Keras does.
   */
  readonly padded?: Padded | "normalize";
}

const choices = [...paddedChoices, "normalize"] as const;

/**
 * Batch normalization of padded sequences: statistics of the valid positions alone, padded ones take no part whatever
 * they hold. forward(x, mask) with x [N, C, L] (any rank and axis) and a mask of x's shape without the channel axis; without
 * a mask all positions are valid. With a communicator the statistics are of the valid positions of all its ranks, which may be none
 * on some of them.
 */
export class MaskedBatchNorm extends SynchronizedBatchNorm {
  readonly padded: Padded | "normalize";

  constructor(numFeatures: number, options?: MaskedBatchNormOptions) {
    super("MaskedBatchNorm", numFeatures, options, { padded: "zero" });
    this.padded = checkChoice("MaskedBatchNorm: padded", options?.padded ?? "zero", choices);
  }

  override forward(x: Tensor, mask?: Mask | null): Tensor {
    if (mask === undefined || mask === null) return super.forward(x);
    const { axis, eps, numFeatures, running, padded } = this;
    checkChannels("MaskedBatchNorm", x.shape, axis, numFeatures);
    if (this.shares) this.group.checkReach(x);
    else if (x.device !== "cpu" || isTraced())
      return this.#byArithmetic(x, maskBeside("MaskedBatchNorm", mask, x, axis));
    const { plan, count } = compactBatch(readMask("MaskedBatchNorm", mask, x.shape, axis), x.shape, axis);
    if (padded === "normalize" && running && !this.training) return super.forward(x);
    const valid = takeValid({ x }, plan).reshape(plan.last ? [count, numFeatures] : [numFeatures, count]);
    const inputs = { x: valid, ...this.affine(x.shape[0]!) };
    const along = plan.last ? 1 : 0;
    const put = (values: Tensor) =>
      putValid({ values: values.reshape([plan.size]), base: padded === "keep" ? x : null }, plan);
    if (running && !this.training) return put(batchNormEval(inputs, running, { axis: along, eps }));
    if (this.shares) {
      if (padded === "normalize") return this.#everywhereTogether(x, valid, along);
      return scope(() => put(this.normalizeTogether(valid, along, x.shape[0]!)));
    }
    if (count < 2) throw tooFew(count, x);
    const { normalizingVariance: variance } = this.conventions;
    if (padded === "normalize") return this.#everywhere(x, valid, batchView(valid.shape, along).view, count);
    const { out, extra } = batchNorm(inputs, { axis: along, eps, variance });
    this.follow({ statistics: extra, repeat: 1, values: count });
    disposeStatistics(extra);
    return put(out);
  }

  /** Elsewhere than on the CPU, and where it is traced: the same without shapes that follow from the mask. Nobody looks how many positions are valid. */
  #byArithmetic(x: Tensor, valid: Tensor): Tensor {
    const { axis, eps, running, padded, conventions } = this;
    const inside = where(valid, x, 0);
    const chosen = (y: Tensor) => where(valid, y, padded === "keep" ? x : 0);
    if (running && !this.training) {
      if (padded === "normalize") return super.forward(x);
      return scope(() => chosen(batchNormEval({ x: inside, ...this.affine(x.shape[0]!) }, running, { axis, eps })));
    }
    return scope(() => {
      const { view } = batchView(x.shape, axis);
      const counts = validCounts(x, valid, view);
      const moments = maskedMoments({ x: inside, valid, counts }, { view });
      const part = (i: number) => moments.narrow(0, i, 1).reshape([view.channels]);
      const [mean, biased] = [part(0), part(1)];
      const unbiased = biased.mul(counts.div(counts.sub(1)));
      // As though of all positions: their number, which is known here, is what follow() corrects for.
      const values = view.outer * view.inner;
      const followed = conventions.runningVariance === "biased" ? biased : unbiased.div(besselFactor(values));
      this.follow({ statistics: { mean, variance: followed }, repeat: 1, values });
      const variance = conventions.normalizingVariance === "biased" ? biased : unbiased;
      const given = { mean, variance, ...this.affine(x.shape[0]!) };
      if (padded === "normalize") return standardize({ x, ...given }, { view, eps });
      return chosen(standardize({ x: inside, ...given }, { view, eps }));
    });
  }

  /** All of x by the moments of `valid` on all ranks. */
  #everywhereTogether(x: Tensor, valid: Tensor, along: number): Tensor {
    const { axis, eps, gathering: gather, conventions } = this;
    return scope(() => {
      const moments = this.gatherMoments(valid, along, x.shape[0]!);
      const inputs = { x, valid, ...this.affine(moments.samples) };
      const views = { view: batchView(x.shape, axis).view, on: batchView(valid.shape, along).view };
      const variance = conventions.normalizingVariance;
      const out = normalizeBesideGroup(inputs, moments, { ...views, eps, variance, gather });
      this.follow({ statistics: moments, repeat: 1, values: moments.values });
      return out;
    });
  }

  /** All of x by the moments of `valid`, which a gradient goes through. */
  #everywhere(x: Tensor, valid: Tensor, on: ColumnView, count: number): Tensor {
    const { axis, eps, numFeatures, conventions } = this;
    const { view } = batchView(x.shape, axis);
    checkInputs("masked_batch_norm", { x, weight: this.weight, bias: this.bias });
    return scope(() => {
      const moments = columnMoments({ x: valid }, { view: on });
      const part = (i: number) => moments.narrow(0, i, 1).reshape([numFeatures]);
      const [mean, biased] = [part(0), part(1)];
      this.follow({ statistics: { mean, variance: biased }, repeat: 1, values: count });
      const variance = conventions.normalizingVariance === "biased" ? biased : biased.mul(besselFactor(count));
      return standardize({ x, mean, variance, ...this.affine(x.shape[0]!) }, { view, eps });
    });
  }
}

const tooFew = (count: number, { shape }: Tensor): ShapeError =>
  new ShapeError({
    rule: "MaskedBatchNorm takes batch statistics from more than one valid position",
    got: `${count === 0 ? "none" : "one"} in an input of shape ${formatShape(shape)}`,
    fix: "Skip batches that are all padding, or call eval(), which uses the running statistics",
  });
