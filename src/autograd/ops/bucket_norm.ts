import { kernels } from "../../kernels/dispatch.js";
import type { NormGrads, RowStats, Stats } from "../../kernels/kernel_set.js";
import { partOf, type Slot } from "../../memory/heap.js";
import type { Bucket } from "../../norm/mask.js";
import { groupView, type NormCase, statisticCount } from "../../norm/views.js";
import { tensor } from "../create.js";
import { isRecording } from "../graph.js";
import { defineOp, type Needs } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkInputs, type NormInputs } from "./fused_norm.js";
import { concat, narrow } from "./movement.js";
import { normGradients } from "./norm_definition.js";

export interface BucketOptions {
  readonly buckets: readonly Bucket[];
  readonly channels: number;
  readonly groups: number;
  /** Whether channels lie last in a bucket. */
  readonly last: boolean;
  readonly eps: number;
}

/** A bucket as the kernels see it: its view, and where its elements and its statistics lie. */
interface Part {
  readonly on: NormCase;
  readonly start: number;
  readonly size: number;
  readonly statistics: number;
  readonly count: number;
}

function partsOf({ buckets, channels, groups, last }: BucketOptions): Part[] {
  let statistics = 0;
  return buckets.map(({ count, samples, start }) => {
    const on = last
      ? groupView([samples, count, channels], groups, 2)
      : groupView([samples, channels, count], groups, 1);
    const part = { on, start, size: samples * channels * count, statistics, count: statisticCount(on) };
    statistics += part.count;
    return part;
  });
}

const piece = ({ storage }: Tensor, start: number, length: number): Slot => partOf(storage, start, length);

type Saved = { x: Tensor; weight: Tensor | null; mean: Tensor; variance: Tensor };

const statisticsOf = ({ mean, variance }: Pick<Saved, "mean" | "variance">, p: Part): Stats & RowStats => ({
  mean: piece(mean, p.statistics, p.count),
  variance: piece(variance, p.statistics, p.count),
});

/**
 * Group normalization of samples of different lengths that lie one behind another, a kernel call for each length:
 * formulas, units and what is saved as in fused_norm.ts.
 *
 * Shapes: x and y flat, the buckets one behind another, each [samples, C, length] or [samples, length, C]; weight, bias [C].
 */
export const bucketNorm = defineOp<NormInputs, BucketOptions, Saved>({
  name: "bucket_norm",
  forward({ x, weight, bias }, options) {
    checkInputs("Masked group normalization", { x, weight, bias }, [options.channels]);
    const parts = partsOf(options);
    const out = Tensor.empty(x.shape, x.dtype);
    const total = parts.reduce((sum, p) => sum + p.count, 0);
    const [mean, variance] = [Tensor.empty([total], "float64"), Tensor.empty([total], "float64")];
    for (const p of parts) {
      const from = piece(x, p.start, p.size);
      const slots = [from, weight?.storage ?? null, bias?.storage ?? null, piece(out, p.start, p.size)] as const;
      const stats = statisticsOf({ mean, variance }, p);
      if (p.on.kernel === "row") kernels.rowNorm(...slots, stats, p.on.view, options.eps);
      else kernels.columnNorm(...slots, stats, p.on.view, options.eps);
    }
    return { out, saved: { x, weight, mean, variance } };
  },
  backward(dy, saved, options, needs) {
    if (isRecording()) return recordedGradients(dy, saved, options);
    let made: ReturnType<typeof gradients> | undefined;
    const all = () => (made ??= gradients(dy, saved, options, needs));
    return { x: () => all().dx!, weight: () => all().dWeight, bias: () => all().dBias };
  },
  twiceDifferentiable: true,
});

/** Each bucket adds its gradients of the affine in double. */
function gradients(dy: Tensor, saved: Saved, options: BucketOptions, needs: Needs<NormInputs>) {
  const { x, weight } = saved;
  const { channels, eps } = options;
  const dx = needs.x ? Tensor.empty(x.shape, x.dtype) : null;
  const own = [needs.weight, needs.bias].map((need) => (need ? Tensor.empty([channels], x.dtype) : null));
  const sums = [new Float64Array(channels), new Float64Array(channels)];
  for (const p of partsOf(options)) {
    const slots = [piece(x, p.start, p.size), piece(dy, p.start, p.size), weight?.storage ?? null] as const;
    const [dWeight, dBias] = own.map((t) => t?.storage ?? null);
    const out: NormGrads = { dx: dx && piece(dx, p.start, p.size), dWeight: dWeight!, dBias: dBias! };
    const stats = statisticsOf(saved, p);
    if (p.on.kernel === "row") kernels.rowNormGrad(...slots, stats, out, p.on.view, eps);
    else kernels.columnNormGrad(...slots, stats, out, p.on.view, eps, false);
    for (const [i, t] of own.entries()) {
      const values = t?.storage.view;
      for (let c = 0; values && c < channels; c++) sums[i]![c]! += values[c]!;
    }
  }
  const [dWeight, dBias] = sums.map((sum) => tensor(sum, { dtype: x.dtype }));
  return { dx, dWeight: dWeight!, dBias: dBias! };
}

/** The same in differentiable ops, for a second derivative. */
function recordedGradients(dy: Tensor, { x, weight }: Saved, options: BucketOptions) {
  const parts = partsOf(options).map(({ on, start, size }) =>
    normGradients(
      narrow(dy, 0, start, size),
      { x: narrow(x, 0, start, size), weight, bias: null },
      {
        on,
        eps: options.eps,
        affineShape: [options.channels],
      },
    ),
  );
  const sum = (all: Tensor[]) => all.reduce((a, b) => a.add(b));
  return {
    x: () => (parts.length > 1 ? concat(parts.map((p) => p.x())) : parts[0]!.x()),
    weight: () => sum(parts.map((p) => p.weight())),
    bias: () => sum(parts.map((p) => p.bias())),
  };
}
