import type { NumberArray } from "../../base/dtype.js";
import { OptionError, StateError } from "../../base/errors.js";
import { kernels } from "../../kernels/dispatch.js";
import { checkBatchStatistics, checkPerChannel } from "../../norm/checks.js";
import { batchView, type ColumnView } from "../../norm/views.js";
import { checkNumbers } from "../check_numbers.js";
import { full, zeros } from "../create.js";
import { isRecording, Need } from "../graph.js";
import { defineOp, type Needs } from "../op.js";
import { Tensor } from "../tensor.js";
import type { BatchNormOptions } from "./batch_norm.js";
import { type Gathering, gradientsAmong } from "./column_parts.js";
import { checkInputs, type NormInputs, type NormStatistics } from "./fused_norm.js";
import type { GroupMoments } from "./group_moments.js";
import { countsOf, type GroupNormalizeOptions, scaledByGroup } from "./sync_batch_norm.js";

export interface InPlaceBatchNormOptions extends Pick<BatchNormOptions, "axis" | "eps"> {
  /** Slope below 0 of the leaky rectifier that follows; 1 (default): nothing follows. Above 0, so that it has an inverse. */
  readonly negativeSlope?: number;
}

interface Options {
  readonly view: ColumnView;
  readonly eps: number;
  readonly slope: number;
  /** Statistics to use instead of x's own. */
  readonly given: { readonly mean: Tensor; readonly variance: Tensor } | null;
  /** From how many values `given` was taken, which x's are among, and how sums become those of all; null: `given` are constants. */
  readonly among: { readonly values: number; readonly gather: Gathering } | null;
}

type Saved = { y: Tensor; weight: Tensor | null; bias: Tensor | null; variance: Tensor };
type Made = { dx: Tensor; dWeight: Tensor | null; dBias: Tensor | null };

/**
 * Batch normalization, with or without a leaky rectifier behind it, whose output is written over its input: z = weight *
 * xhat + bias and y = z where z > 0, else slope * z. Backward takes everything from y: z by the rectifier's inverse,
 * xhat = (z - bias) / weight, and then the formulas of fused_norm.ts. They run on the kernel for x: with statistics
 * mean' = bias, variance' = weight^2 it sees xhat' = sign(weight) * xhat in z, and with weight' = weight * |weight| * rho
 * its dx is that of x.
 *
 * Shapes: as batchNorm. x and y share memory; x's version goes up, so the tape refuses ops that had saved x.
 * Saves:  y, weight, bias, variance: nothing of x's size that would not be kept anyway by what y goes into.
 * Throws: StateError in backward where a weight is exactly 0 and its gradient is wanted, since y does not tell xhat then; on other
 *         devices than the CPU that gradient is NaN.
 *         In float32 xhat comes back with the rounding of y: an error of about 6e-8 * |bias / weight|.
 * Source: Rota Bulo, Porzi & Kontschieder 2018, arXiv:1712.02616.
 */
const op = defineOp<NormInputs, Options, Saved, NormStatistics>({
  name: "in_place_batch_norm",
  forward({ x, weight, bias }, { view, eps, slope, given }) {
    const fresh = () => Tensor.empty([view.channels], "float64");
    const statistics = given ?? { mean: fresh(), variance: fresh() };
    const stats = { mean: statistics.mean.storage, variance: statistics.variance.storage };
    const affine = [weight?.storage ?? null, bias?.storage ?? null] as const;
    const activation = slope === 1 ? null : ({ op: "leakyRelu", alpha: slope } as const);
    const y = x.detach();
    if (given) kernels.columnNormEval(x.storage, ...affine, y.storage, stats, view, eps, activation);
    else kernels.columnNorm(x.storage, ...affine, y.storage, stats, view, eps, activation);
    x.storage.version++;
    return { out: y, saved: { y, weight, bias, variance: statistics.variance }, extra: statistics };
  },
  backward(dy, saved, options, needs) {
    let made: Made | undefined;
    const all = () => (made ??= gradients(dy, saved, options, needs));
    return { x: () => all().dx, weight: () => all().dWeight!, bias: () => all().dBias! };
  },
});

function gradients(dy: Tensor, saved: Saved, options: Options, needs: Needs<NormInputs>): Made {
  const { y, weight, bias, variance } = saved;
  const { view, eps, slope } = options;
  const { channels } = view;
  if (needs.weight && weight) checkNumbers(weight, checkNotZero);
  const dx = Tensor.empty(y.shape, y.dtype);
  const signed = weight?.cast("float64") ?? full([channels], 1, { dtype: "float64" });
  const centre = bias?.cast("float64") ?? zeros([channels], { dtype: "float64" });
  const squares = signed.square().add(signed.equal(0));
  const scale = signed.mul(signed.abs()).mul(variance.cast("float64").add(eps).rsqrt()).cast(y.dtype);
  // y has the sign of z. dz lies where dx comes to lie, so z is the one temporary of x's size.
  const z = slope === 1 ? y : Tensor.empty(y.shape, y.dtype);
  if (slope !== 1) {
    kernels.activationGrad("leakyRelu", y.storage, dy.storage, dx.storage, slope);
    kernels.activation("leakyRelu", y.storage, z.storage, 1 / slope);
  }
  const dz = slope === 1 ? dy : dx;
  const seen = { x: z, mean: centre, variance: squares, weight: scale };
  const { dWeight, dBias } = plainGradients(dz, seen, options, needs, dx);
  // Where nobody looks for a weight of 0, its gradient is 0 / 0.
  const sign = weight?.div(weight.abs());
  return { dx, dWeight: dWeight && sign ? dWeight.mul(sign) : dWeight, dBias };
}

type Seen = { x: Tensor; mean: Tensor; variance: Tensor; weight: Tensor };

/** The gradients of plain normalization, eps = 0; that to x is written to dx, where dy may lie. */
function plainGradients(
  dy: Tensor,
  seen: Seen,
  { view, given, among }: Options,
  needs: Needs<NormInputs>,
  dx: Tensor,
): Omit<Made, "dx"> {
  const { x, mean, variance, weight } = seen;
  if (among) {
    const { values, gather } = among;
    const all = gradientsAmong(dy, { ...seen, counts: countsOf({ mean, values }) }, { view, eps: 0, gather }, dx);
    const made = { dWeight: needs.weight ? all.weight() : null, dBias: needs.bias ? all.bias() : null };
    if (needs.x) all.x();
    return made;
  }
  const made = {
    dWeight: needs.weight ? Tensor.empty([view.channels], x.dtype) : null,
    dBias: needs.bias ? Tensor.empty([view.channels], x.dtype) : null,
  };
  const stats = { mean: mean.storage, variance: variance.storage };
  const out = {
    dx: needs.x ? dx.storage : null,
    dWeight: made.dWeight?.storage ?? null,
    dBias: made.dBias?.storage ?? null,
  };
  kernels.columnNormGrad(x.storage, dy.storage, weight.storage, stats, out, view, 0, given !== null);
  return made;
}

function checkNotZero(weights: NumberArray): void {
  const at = weights.indexOf(0);
  if (at < 0) return;
  throw new StateError({
    rule: "In-place batch normalization finds the gradient of a weight from its output, which a weight of 0 has wiped out",
    got: `0 as the weight of channel ${at}`,
    fix: "Freeze the weight (requiresGrad = false), or normalize without writing over the input",
  });
}

function run(
  inputs: NormInputs,
  view: ColumnView,
  { eps, negativeSlope: slope = 1 }: Omit<InPlaceBatchNormOptions, "axis">,
  given: Options["given"],
  among: Options["among"] = null,
) {
  const { x } = inputs;
  checkInputs("in_place_batch_norm", inputs, [view.channels]);
  if (!(slope > 0 && Number.isFinite(slope))) {
    throw new OptionError({
      rule: "In-place batch normalization needs an activation with an inverse: a negativeSlope above 0",
      got: String(slope),
    });
  }
  if (isRecording() && x.vertex.need === Need.wanted && x.vertex.node === null) {
    throw new StateError({
      rule: "In-place batch normalization cannot write over a tensor that someone set requiresGrad on",
      got: `${x}, which no op made`,
      fix: "Normalize a result of an op, or call it inside noGrad",
    });
  }
  return op.run(inputs, { view, eps, slope, given, among });
}

/** In training, by the batch's own statistics, which come back too; the caller disposes them. */
export function batchNormInPlace(
  inputs: NormInputs,
  options: InPlaceBatchNormOptions,
): { out: Tensor; extra: NormStatistics } {
  const on = batchView(inputs.x.shape, options.axis);
  checkBatchStatistics("Batch normalization", inputs.x.shape, on);
  return run(inputs, on.view, options, null);
}

/**
 * In training, by the moments of all ranks, which x's own are among: backward adds up its sums over them, once, whatever is asked of it.
 * x may be empty. A weight of 0 is refused before anything is sent, on all ranks alike.
 */
export function batchNormInPlaceByGroup(
  inputs: NormInputs,
  moments: GroupMoments,
  options: GroupNormalizeOptions & { readonly negativeSlope?: number },
): Tensor {
  const { inputs: scaled, eps } = scaledByGroup(inputs, moments, options);
  const { mean, variance, values } = moments;
  const { view, gather } = options;
  return run(scaled, view, { ...options, eps }, { mean, variance }, { values, gather }).out;
}

/** With given statistics, [C] each, constants in backward: dx = weight * rho * dz. */
export function batchNormEvalInPlace(
  inputs: NormInputs,
  statistics: { readonly mean: Tensor; readonly variance: Tensor },
  options: InPlaceBatchNormOptions,
): Tensor {
  const { view } = batchView(inputs.x.shape, options.axis);
  checkPerChannel("The running mean", statistics.mean.shape, view.channels);
  checkPerChannel("The running variance", statistics.variance.shape, view.channels);
  return run(inputs, view, options, statistics).out;
}
