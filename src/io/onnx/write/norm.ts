import type { Tensor } from "../../../autograd/index.js";
import { layoutOf } from "../../../autograd/ops/norm_definition.js";
import { numberOfElements, type Shape, sameShape } from "../../../base/shape.js";
import type { NormActivation } from "../../../kernels/kernel_set.js";
import type { NormCase } from "../../../norm/views.js";
import { activated } from "./elementwise.js";
import type { Context, Exporter, Inputs, Translations } from "./exporter.js";
import type { Graph, Value } from "./graph.js";

/** What fused_norm.ts gives each of its ops. */
interface NormOptions {
  readonly on: NormCase;
  readonly eps: number;
  readonly affineShape: Shape;
  readonly centred?: boolean;
  readonly given?: { readonly mean: Tensor; readonly variance: Tensor };
  readonly activation?: NormActivation | null;
}

type NormInputs = { readonly x: Value; readonly weight: Value | null; readonly bias: Value | null };
type Form = (context: Context, inputs: NormInputs, options: NormOptions) => Value;

const norm =
  (form: Form): Exporter =>
  (context, inputs: Inputs, options: NormOptions) => {
    const y = form(context, inputs as NormInputs, options);
    return activated(context.g, y, options.activation);
  };

/** weight x + bias where there are such, in shapes that broadcast against x. */
export function affine(g: Graph, x: Value, weight: Value | null, bias: Value | null, shape: Shape): Value {
  const scaled = weight ? g.mul(x, g.reshape(weight, shape)) : x;
  return bias ? g.add(scaled, g.reshape(bias, shape)) : scaled;
}

/**
 * x less its mean over `axes`, taken away twice: what rounding left in the first mean is small against x, but not against its
 * spread where that is small, and the second finds it.
 */
export function centred(g: Graph, x: Value, axes: readonly number[]): Value {
  const near = g.sub(x, g.mean(x, axes));
  return g.sub(near, g.mean(near, axes));
}

/** (x - mean) / sqrt(mean of squares + eps) over `axes`, in two passes: the squares are of what is centred. */
export function standardized(g: Graph, x: Value, axes: readonly number[], eps: number, centre = true): Value {
  const around = centre ? centred(g, x, axes) : x;
  return g.div(around, g.sqrt(g.plus(g.mean(g.square(around), axes), eps)));
}

const ones = (g: Graph, weight: Value | null, shape: Shape): Value => weight ?? g.fill(1, shape);
const zeros = (g: Graph, bias: Value | null, shape: Shape): Value => bias ?? g.fill(0, shape);

/** Written out, on the view of x that the kernels have. */
export const byDefinition: Form = ({ g }, { x, weight, bias }, { on, eps, centred: centring }) => {
  const layout = layoutOf(on);
  const y = standardized(g, g.reshape(x, layout.shape), layout.axes, eps, centring);
  return g.reshape(affine(g, y, weight, bias, layout.affine), x.shape);
};

/** BatchNormalization of [N, C, ...]; channels elsewhere by a shape in which they are on axis 1. */
export function batchNormalization(
  g: Graph,
  { x, weight, bias }: NormInputs,
  [mean, variance]: readonly [Value, Value],
  eps: number,
  [outer, channels, inner]: readonly [number, number, number],
): Value {
  const direct = x.shape[1] === channels && x.shape[0] === outer && x.shape.length >= 2;
  const shape = direct ? x.shape : inner === 1 ? [outer, channels] : [outer, channels, inner];
  const perChannel = [ones(g, weight, [channels]), zeros(g, bias, [channels]), mean, variance];
  const inputs = [g.reshape(x, shape), ...perChannel.map((t) => g.reshape(t, [channels]))];
  return g.reshape(g.node("BatchNormalization", inputs, shape, { epsilon: eps }), x.shape);
}

const withGiven: Form = (context, inputs, options) => {
  const { on, eps, given } = options;
  if (on.kernel !== "column" || !given) return byDefinition(context, inputs, options);
  const { outer, channels, inner } = on.view;
  const statistics = [context.value(given.mean), context.value(given.variance)] as const;
  return batchNormalization(context.g, inputs, statistics, eps, [outer, channels, inner]);
};

/**
 * Rows of [N, G, ...]: by GroupNormalization, whose scale is one a channel from opset 21 on, or by InstanceNormalization of
 * [N, G, ...], and then the affine.
 */
const grouped: Form = (context, { x, weight, bias }, options) => {
  const { g } = context;
  const { on, eps, affineShape } = options;
  if (on.kernel !== "row" || g.accurate) return byDefinition(context, { x, weight, bias }, options);
  const { rows, size, groups, inner } = on.view;
  const [batch, channels] = [rows / groups, (groups * size) / inner];
  const ofChannels = affineShape.length === 1 && affineShape[0] === channels && channels === x.shape[1];
  const spatial = x.shape.length > 2 && ofChannels;
  if (spatial && groups === channels) {
    const inputs = [x, ones(g, weight, [channels]), zeros(g, bias, [channels])];
    return g.node("InstanceNormalization", inputs, x.shape, { epsilon: eps });
  }
  if (spatial && g.opset >= 21) {
    const inputs = [x, ones(g, weight, [channels]), zeros(g, bias, [channels])];
    return g.node("GroupNormalization", inputs, x.shape, { epsilon: eps, num_groups: groups });
  }
  const shape = [batch, groups, size];
  const neutral = [g.fill(1, [groups]), g.fill(0, [groups])];
  const rowsOfGroups = g.node("InstanceNormalization", [g.reshape(x, shape), ...neutral], shape, { epsilon: eps });
  // One number a channel, or one a feature.
  const along = ofChannels ? [channels, ...x.shape.slice(2).map(() => 1)] : x.shape.slice(1);
  return affine(g, g.reshape(rowsOfGroups, x.shape), weight, bias, along);
};

/** How many of x's last axes a row spans; 0 where it spans no whole axes. */
function lastAxes(x: Value, { on, affineShape }: NormOptions): number {
  const n = affineShape.length;
  const ends = sameShape(x.shape.slice(x.shape.length - n), affineShape);
  return on.kernel === "row" && ends && numberOfElements(affineShape) === on.view.size ? n : 0;
}

/** `since`: the opset that brought the operator. */
const overLast =
  (op: string, since: number, centring: boolean): Form =>
  (context, inputs, options) => {
    const { g } = context;
    const { x, weight, bias } = inputs;
    const n = lastAxes(x, options);
    if (n === 0) return byDefinition(context, inputs, { ...options, centred: centring });
    const axis = x.shape.length - n;
    if (g.opset >= since && !(g.accurate && centring)) {
      const affineInputs = [ones(g, weight, options.affineShape), ...(centring && bias ? [bias] : [])];
      return g.node(op, [x, ...affineInputs], x.shape, { axis, epsilon: options.eps });
    }
    const axes = options.affineShape.map((_, i) => axis + i);
    return affine(g, standardized(g, x, axes, options.eps, centring), weight, bias, options.affineShape);
  };

/** Mean 0 and variance 1 stand for statistics here: what is left is the affine. */
const affineAlone: Form = ({ g }, { x, weight, bias }, { on }) => {
  const layout = layoutOf(on);
  return g.reshape(affine(g, g.reshape(x, layout.shape), weight, bias, layout.affine), x.shape);
};

export const norms: Translations = {
  batch_norm: norm(byDefinition),
  batch_norm_eval: norm(withGiven),
  batch_renorm: norm(byDefinition),
  ghost_batch_norm: norm(byDefinition),
  group_norm: norm(grouped),
  instance_norm: norm(grouped),
  conditional_instance_norm: norm(byDefinition),
  position_norm: norm(byDefinition),
  layer_norm: norm(overLast("LayerNormalization", 17, true)),
  rms_norm: norm(overLast("RMSNormalization", 23, false)),
  channel_affine: norm(affineAlone),
  add_norm: ({ g }, { x, residual }) => g.add(x!, residual!),
};
