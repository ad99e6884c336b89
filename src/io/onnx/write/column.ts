import type { Tensor } from "../../../autograd/index.js";
import { layoutOf } from "../../../autograd/ops/norm_definition.js";
import type { PoolPlan } from "../../../kernels/kernel_set.js";
import type { ColumnView } from "../../../norm/views.js";
import { averagePool } from "./conv.js";
import { activated } from "./elementwise.js";
import type { Context, Exporter, Inputs, Translations } from "./exporter.js";
import type { Graph, Value } from "./graph.js";
import { affine, batchNormalization, byDefinition, centred } from "./norm.js";

/** What ops on a column view are called with. */
interface ColumnOptions {
  readonly view: ColumnView;
  readonly eps: number;
}

/** The inputs of an op that normalizes. */
type Named = Readonly<Record<"x" | "weight" | "bias", Value | null>>;
const named = (inputs: Inputs): Named => inputs as unknown as Named;

const columns = (view: ColumnView) => layoutOf({ kernel: "column", view });

/** Means, then variances, of the column statistics: [2, statistics]. */
const moments: Exporter = ({ g }, { x }, { view }: ColumnOptions) => {
  const layout = columns(view);
  const seen = g.reshape(x!, layout.shape);
  const mean = g.mean(seen, layout.axes);
  const variance = g.mean(g.square(g.sub(seen, mean)), layout.axes);
  const row = [1, (view.batch * view.channels) / view.merge];
  return g.concat([g.reshape(mean, row), g.reshape(variance, row)], 0);
};

/** By statistics that come as inputs; without a mean nothing is subtracted. */
function byStatistics(
  g: Graph,
  inputs: Inputs,
  mean: Value | null,
  square: Value,
  { view, eps }: ColumnOptions,
): Value {
  const { x, weight, bias } = named(inputs);
  const known = (mean === null || mean.constant !== null) && square.constant !== null;
  if (known && view.batch === 1 && view.merge === 1) {
    const centre = mean ?? g.fill(0, [view.channels]);
    return batchNormalization(g, { x: x!, weight, bias }, [centre, square], eps, [
      view.outer,
      view.channels,
      view.inner,
    ]);
  }
  const layout = columns(view);
  const seen = g.reshape(x!, layout.shape);
  const around = mean ? g.sub(seen, g.reshape(mean, layout.statistics)) : seen;
  const root = g.sqrt(g.plus(g.reshape(square, layout.statistics), eps));
  return g.reshape(affine(g, g.div(around, root), weight, bias, layout.affine), x!.shape);
}

const standardize: Exporter = ({ g }, inputs, options: ColumnOptions) =>
  byStatistics(g, inputs, inputs.mean!, inputs.variance!, options);

interface InPlaceOptions extends ColumnOptions {
  readonly slope: number;
  readonly given: { readonly mean: Tensor; readonly variance: Tensor } | null;
}

const inPlace: Exporter = (context, inputs, options: InPlaceOptions) => {
  const { g, value } = context;
  const { view, slope, given, eps } = options;
  const { x, weight, bias } = named(inputs);
  const z = given
    ? byStatistics(g, inputs, value(given.mean), value(given.variance), options)
    : byDefinition(
        context,
        { x: x!, weight, bias },
        { on: { kernel: "column", view }, eps, affineShape: [view.channels] },
      );
  return slope === 1 ? z : activated(g, z, { op: "leakyRelu", alpha: slope });
};

/** x / d, and 0 where d is 0, as x is there too. */
function dividedBy(g: Graph, x: Value, d: Value, mayVanish: boolean): Value {
  if (!mayVanish) return g.div(x, d);
  return g.div(x, g.where(g.binary("Equal", d, g.scalar(0), "bool"), g.scalar(1), d));
}

/** A divisor that is not sqrt(s^2 + eps) on the view of x; `axes` are those that a statistic spans. */
type Divide = (g: Graph, x: Value, axes: readonly number[], eps: Value, mayVanish: boolean) => Value;

const rescale =
  (divide: Divide): Exporter =>
  ({ g }, inputs, { view, eps }: ColumnOptions) => {
    const { x, weight, bias } = named(inputs);
    const layout = columns(view);
    const constant = inputs.eps ? g.reshape(inputs.eps, []) : g.scalar(eps);
    const y = divide(g, g.reshape(x!, layout.shape), layout.axes, constant, !inputs.eps && eps === 0);
    return g.reshape(affine(g, y, weight, bias, layout.affine), x!.shape);
  };

const byRootMeanSquare: Divide = (g, x, axes, eps, mayVanish) =>
  dividedBy(g, x, g.sqrt(g.add(g.mean(g.square(x), axes), g.unary("Abs", eps))), mayVanish);

/** What ONNX's MeanVarianceNormalization adds to the deviation. */
const MEAN_VARIANCE_EPS = 1e-9;

const meanVariance: Exporter = (context, inputs, options: ColumnOptions) => {
  const { g } = context;
  const layout = columns(options.view);
  if (!g.accurate && options.eps === MEAN_VARIANCE_EPS && !inputs.eps && !inputs.weight && !inputs.bias) {
    const seen = g.reshape(inputs.x!, layout.shape);
    return g.reshape(g.unary("MeanVarianceNormalization", seen, { axes: layout.axes }), inputs.x!.shape);
  }
  return rescale((_g, x, axes, eps, mayVanish) => {
    const around = centred(g, x, axes);
    return dividedBy(g, around, g.add(g.sqrt(g.mean(g.square(around), axes)), eps), mayVanish);
  })(context, inputs, options as never);
};

const byLength: Divide = (g, x, axes, eps, mayVanish) => {
  const length = g.reduce("ReduceL2", x, axes);
  return dividedBy(g, x, mayVanish ? length : g.binary("Max", length, g.unary("Abs", eps)), mayVanish);
};

/** Rows of one length. LpNormalization makes zeros of zeros, as eps 0 does here, and knows no other eps. */
const unitRows: Exporter = ({ g }, { x, scale }, { size, eps }: { size: number; eps: number }) => {
  const rows = g.reshape(x!, [size === 0 ? 0 : x!.shape.reduce((a, b) => a * b, 1) / size, size]);
  const unit =
    eps === 0 ? g.unary("LpNormalization", rows, { axis: -1, p: 2 }) : byLength(g, rows, [1], g.scalar(eps), false);
  return g.reshape(scale ? g.mul(unit, g.reshape(scale, [])) : unit, x!.shape);
};

/** y = x (1 + weight G / (mean over channels of G + eps)) + bias, G the length over the positions of a sample's channel. */
const globalResponse: Exporter = ({ g }, inputs, { axis, eps }: { axis: number; eps: number }) => {
  const { x, weight, bias } = named(inputs);
  const a = axis < 0 ? axis + x!.shape.length : axis;
  const positions = x!.shape.flatMap((_, i) => (i === 0 || i === a ? [] : [i]));
  const lengths = g.reduce("ReduceL2", x!, positions);
  const levels = g.plus(g.mean(lengths, [a]), eps);
  const along = x!.shape.map((d, i) => (i === a ? d : 1));
  const factors = g.plus(g.mul(dividedBy(g, lengths, levels, eps === 0), g.reshape(weight!, along)), 1);
  return g.add(g.mul(x!, factors), g.reshape(bias!, along));
};

interface ResponseOptions {
  readonly plan: PoolPlan;
  readonly lean: "left" | "right";
  readonly scale: number;
  readonly beta: number;
  readonly k: number;
}

/**
 * LRN's window lies along axis 1 alone, and onnxruntime takes odd sizes only. Other windows are means of squares by a pooling.
 */
const localResponse: Exporter = ({ g }, { x }, { plan, lean, scale, beta, k }: ResponseOptions) => {
  const long = plan.kernel.flatMap((n, i) => (n > 1 ? [i] : []));
  const [axis = 2] = long;
  const size = plan.kernel[axis]!;
  if (long.length <= 1 && size % 2 === 1) {
    const lengths = plan.input;
    const before = lengths.slice(0, axis).reduce((a, b) => a * b, plan.planes);
    const behind = lengths.slice(axis + 1).reduce((a, b) => a * b, 1);
    const seen = g.reshape(x!, [before, lengths[axis]!, behind, 1]);
    return g.reshape(g.unary("LRN", seen, { alpha: scale, beta, bias: k, size }), x!.shape);
  }
  const seen = g.reshape(x!, [plan.planes, 1, ...plan.input]);
  // A window of even size leans to the side whose padding is wider.
  const after = plan.kernel.map((n, i) => n - 1 - plan.padding[i]!);
  const [left, right] = lean === "left" ? [plan.padding, after] : [after, plan.padding];
  const squares = g.square(seen);
  const widths = [0, 0, ...left, 0, 0, ...right];
  const whole = seen.shape.map((d, i) => d + widths[i]! + widths[i + 5]!);
  const padded = g.node("Pad", [squares, g.lengths(widths), g.scalar(0)], whole, { mode: "constant" });
  const inside = {
    ...plan,
    input: plan.input.map((n, i) => n + plan.kernel[i]! - 1) as never,
    padding: [0, 0, 0] as const,
  };
  const means = averagePool(g, padded, inside);
  const power = g.binary("Pow", g.plus(g.times(means, scale), k), g.scalar(-beta));
  return g.reshape(g.mul(seen, power), x!.shape);
};

interface RowsOfClasses {
  readonly smoothing: number;
  readonly ignoreIndex: number;
}

/** -sum of q log softmax, q = 1 - smoothing at the target and smoothing / C everywhere; 0 where the target is ignored. */
const crossEntropy: Exporter = (context: Context, { logits, target }, { smoothing, ignoreIndex }: RowsOfClasses) => {
  const { g } = context;
  const [rows, classes] = logits!.shape as [number, number];
  const logs = g.unary("LogSoftmax", logits!, { axis: 1 });
  const ignored = g.binary("Equal", target!, g.scalar(ignoreIndex, "int32"), "bool");
  const index = g.reshape(g.where(ignored, g.scalar(0, "int32"), target!), [rows, 1]);
  const picked = g.node("GatherElements", [logs, index], [rows, 1], { axis: 1 });
  const own = g.times(g.reshape(picked, [rows]), smoothing - 1);
  const spread = () => g.times(g.reshape(g.reduce("ReduceSum", logs, [1]), [rows]), -smoothing / classes);
  return g.where(ignored, g.scalar(0), smoothing === 0 ? own : g.add(own, spread()));
};

export const columnOps: Translations = {
  column_moments: moments,
  standardize,
  normalize_among: standardize,
  power_norm: ({ g }, inputs, options: ColumnOptions) => byStatistics(g, inputs, null, inputs.square!, options),
  in_place_batch_norm: inPlace,
  filter_response_norm(context, inputs, options: ColumnOptions | { on: never }) {
    if ("on" in options) return byDefinition(context, named(inputs) as never, options as never);
    return rescale(byRootMeanSquare)(context, inputs, options as never);
  },
  mean_variance_norm: meanVariance,
  unit_norm: rescale(byLength),
  unit_rows: unitRows,
  global_response_norm: globalResponse,
  local_response_norm: localResponse,
  window_mean: { reason: "it is a step of local_response_norm, which is written as a whole" },
  masked_moments: "composed",
  cross_entropy: crossEntropy,
};
