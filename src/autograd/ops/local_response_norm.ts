import { normalizeAxis, numberOfElements } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { PoolPlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkInputs } from "./fused_norm.js";
import { triple } from "./windows.js";

/** Which way a window of even size reaches one step further: to lower indices, as in PyTorch, or to higher ones. */
export type Lean = "left" | "right";

/** Windows of `size` along the last of [planes, ...lengths], one around each element. */
interface Windows {
  readonly plan: PoolPlan;
  readonly lean: Lean;
}

/** The plan leans left: one more element before than behind. */
function windowPlan(planes: number, lengths: readonly number[], sizes: readonly number[]): PoolPlan {
  const whole = triple(lengths, 1);
  const padding = sizes.map((size) => size >> 1);
  const windows = { kernel: triple(sizes, 1), padding: triple(padding, 0), stride: triple([1, 1, 1], 1) };
  return { planes, input: whole, output: whole, ...windows, dilation: windows.stride, countIncludePad: true };
}

/**
 * Mean over the window around each element, what lies outside counting as 0. A window that leans right is the transpose
 * of one that leans left, so that each is the other's gradient.
 */
const windowMean: Op<{ x: Tensor }, Windows, undefined> = defineOp<{ x: Tensor }, Windows>({
  name: "window_mean",
  forward({ x }, { plan, lean }) {
    const out = Tensor.empty(x.shape, x.dtype);
    if (x.size > 0) kernels[lean === "left" ? "avgPool" : "avgPoolGrad"](x.storage, out.storage, plan);
    return { out };
  },
  backward: (dy, _saved, windows) => ({ x: () => windowMean({ x: dy }, transposed(windows)) }),
  twiceDifferentiable: true,
});

const transposed = ({ plan, lean }: Windows): Windows => ({ plan, lean: lean === "left" ? "right" : "left" });

interface Response extends Windows {
  /** What the mean of squares is multiplied by. */
  readonly scale: number;
  readonly beta: number;
  readonly k: number;
}

/** x^-beta; by square roots where they do, since a power takes many times as long. */
function inversePower(x: Tensor, beta: number): Tensor {
  if (beta === 0.5) return x.rsqrt();
  if (beta === 1) return x.reciprocal();
  if (beta !== 0.75) return x.pow(-beta);
  const root = x.rsqrt();
  return root.mul(root.sqrt());
}

const denominator = (x: Tensor, o: Response): Tensor => windowMean({ x: x.square() }, o).mul(o.scale).add(o.k);

/** With d = k + scale * W x^2, W the window mean: y = x d^-beta. Saves x alone; d is as large and is computed again. */
const response = defineOp<{ x: Tensor }, Response, { x: Tensor }>({
  name: "local_response_norm",
  forward({ x }, o) {
    checkInputs("local_response_norm", { x });
    return { out: x.mul(inversePower(denominator(x, o), o.beta)), saved: { x } };
  },
  backward(dy, { x }, o) {
    return {
      x: () => {
        const d = denominator(x, o);
        const direct = dy.mul(inversePower(d, o.beta));
        const spread = windowMean({ x: direct.mul(x).div(d) }, transposed(o));
        return direct.sub(spread.mul(x).mul(2 * o.scale * o.beta));
      },
    };
  },
  twiceDifferentiable: true,
});

export interface ResponseOptions {
  /** How many elements a window has along each of its axes. */
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  /** Above 0. */
  readonly k: number;
  /** Whether alpha multiplies the mean of squares over a window ("size") or their sum ("none"). */
  readonly divide: "size" | "none";
  readonly lean: Lean;
}

const scaleOf = ({ alpha, divide, size }: ResponseOptions, axes: number): number =>
  divide === "size" ? alpha : alpha * size ** axes;

/**
 * Local response normalization across channels: y_c = x_c / d_c^beta, d_c = k + (alpha / size) * sum of x_j^2 over the
 * `size` channels j around c at the same position. A window that hangs over the first or last channel has fewer terms,
 * and alpha is divided by size all the same.
 *   dx_c = dy_c / d_c^beta - 2 (alpha / size) beta x_c * sum of dy_j x_j / d_j^(beta + 1) over the j whose window has c.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`. Saves x.
 * Throws: DTypeError if x is not of a floating type.
 * Source: Krizhevsky, Sutskever & Hinton 2012; windows as torch.nn.LocalResponseNorm's.
 */
export function localResponseNorm(x: Tensor, { axis, ...o }: ResponseOptions & { readonly axis: number }): Tensor {
  const a = normalizeAxis(axis, x.rank, "The channel axis");
  const inner = numberOfElements(x.shape.slice(a + 1));
  const channels = x.shape[a]!;
  const outer = numberOfElements(x.shape.slice(0, a));
  // Channels last: they run along memory, as a row of the pooling kernel does.
  const plan =
    inner === 1 ? windowPlan(outer, [channels], [o.size]) : windowPlan(outer, [channels, inner], [o.size, 1]);
  return response({ x }, { plan, lean: o.lean, scale: scaleOf(o, 1), beta: o.beta, k: o.k });
}

/**
 * The same within each map: the window of size^d elements lies over the d spatial axes around a position, and what
 * hangs over the border counts as zeros, also in the division.
 *
 * Shapes: x and y [N, C, ...S] with one to three spatial axes. Saves x.
 */
export function mapResponseNorm(x: Tensor, o: ResponseOptions): Tensor {
  const lengths = x.shape.slice(2);
  const sizes = lengths.map(() => o.size);
  const plan = windowPlan(x.shape[0]! * x.shape[1]!, lengths, sizes);
  return response({ x }, { plan, lean: o.lean, scale: scaleOf(o, lengths.length), beta: o.beta, k: o.k });
}
