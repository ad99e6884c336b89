import { kernels } from "../../kernels/dispatch.js";
import type { RowView } from "../../norm/views.js";
import { full, zeros } from "../create.js";
import { isRecording } from "../graph.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { defineRescale } from "./column_rescale.js";
import { where } from "./elementwise.js";
import { checkInputs } from "./fused_norm.js";

type Inputs = { x: Tensor; scale: Tensor | null };
interface UnitRowsOptions {
  /** Length of a vector: the product of x's last axes. */
  readonly size: number;
  readonly eps: number;
}
/** weight: scale / sqrt(size). squares: each row's mean of squares, float64. */
type Saved = { x: Tensor; scale: Tensor | null; weight: Tensor; squares: Tensor };

/** Unit vectors along the axes that a column's statistic spans. */
export const unitColumns = defineRescale(
  "unit_norm",
  {
    square: (squares, m, eps) => squares.mul(m).maximum(square(eps)),
    feedback: (squares, m, eps) => squares.mul(m).greaterEqual(square(eps)).mul(m),
  },
  false,
);

const square = (eps: Tensor | number): Tensor | number => (typeof eps === "number" ? eps * eps : eps.square());

/** In the place of the kernels' eps: under any square of a float32 x, and its inverse root is a float32 number. */
const TINY = 1e-76;

/** Rows without elements count as none. */
const viewOf = (x: Tensor, size: number): RowView => {
  return { rows: size === 0 ? 0 : x.size / size, size, groups: 1, inner: size };
};

/** The rows whose norm is below eps, or 0. */
function shortRows(squares: Tensor, size: number, eps: number): number[] {
  const short: number[] = [];
  const limit = (eps * eps) / size;
  for (const [r, q] of squares.storage.view.entries()) if (q < limit || q === 0) short.push(r);
  return short;
}

const rowsOfOneLength = defineOp<Inputs, UnitRowsOptions, Saved>({
  name: "unit_rows",
  forward({ x, scale }, { size, eps }) {
    checkInputs("unit_rows", { x, scale });
    const g = scale ? scale.item() : 1;
    const weight = full([1], g / Math.sqrt(size), { dtype: x.dtype });
    const view = viewOf(x, size);
    const squares = Tensor.empty([view.rows], "float64");
    const out = Tensor.empty(x.shape, x.dtype);
    const stats = { mean: null, variance: squares.storage };
    if (view.rows > 0) kernels.rowNorm(x.storage, weight.storage, null, out.storage, stats, view, TINY);
    const [from, to] = [x.storage.view, out.storage.view];
    for (const r of shortRows(squares, size, eps)) {
      for (let i = r * size; i < (r + 1) * size; i++) to[i] = eps > 0 ? (g * from[i]!) / eps : 0;
    }
    return { out, saved: { x, scale, weight, squares } };
  },
  backward(dy, { x, scale, weight, squares }, { size, eps }, needs) {
    // Under createGraph the formula in differentiable ops, so that it can be differentiated again.
    if (isRecording()) return recordedGradients(dy, x, scale, size, eps);
    const view = viewOf(x, size);
    const dx = needs.x ? Tensor.empty(x.shape, x.dtype) : null;
    const dWeight = needs.scale ? zeros([1], { dtype: x.dtype }) : null;
    const out = { dx: dx?.storage ?? null, dWeight: dWeight?.storage ?? null, dBias: null };
    const stats = { mean: null, variance: squares.storage };
    if (view.rows > 0) kernels.rowNormGrad(x.storage, dy.storage, weight.storage, stats, out, view, TINY);
    const [xs, dys, dxs] = [x.storage.view, dy.storage.view, dx?.storage.view];
    const g = scale ? scale.item() : 1;
    let dScale = dWeight ? dWeight.item() / Math.sqrt(size) : 0;
    for (const r of shortRows(squares, size, eps)) {
      const length = Math.sqrt(squares.storage.view[r]! * size);
      for (let i = r * size; i < (r + 1) * size; i++) {
        if (dxs) dxs[i] = eps > 0 ? (g * dys[i]!) / eps : 0;
        // The kernel counted u = x / length; x is 0 where length is.
        if (length > 0) dScale += dys[i]! * xs[i]! * (1 / eps - 1 / length);
      }
    }
    return { x: () => dx!, scale: () => full(scale!.shape, dScale, { dtype: x.dtype }) };
  },
  twiceDifferentiable: true,
});

/**
 * Rows scaled to one Euclidean length: y = scale * x / max(||x||, eps), as root-mean-square normalization with the weight
 * scale / sqrt(size). With u = x / ||x||: dx = (scale / ||x||) * (dy - u * sum of dy * u), dscale = sum of dy * u. Rows
 * shorter than eps are put right afterwards: y = scale * x / eps, dx = scale * dy / eps; 0 where eps is 0 too.
 *
 * Shapes: x and y alike, rows along their last axes; scale one number, or null for 1.
 * Saves:  x, scale, and one float64 number a row.
 */
export function unitRows(inputs: Inputs, options: UnitRowsOptions): Tensor {
  const { x, scale } = inputs;
  // One pass of the row kernel, and a look for short rows that only numbers in the heap allow; elsewhere the two passes of columns.
  if (x.device === "cpu") return rowsOfOneLength(inputs, options);
  const { rows, size } = viewOf(x, options.size);
  const view = { batch: 1, outer: 1, channels: rows, inner: size, merge: 1 };
  return unitColumns({ x, weight: scale?.expand([rows]) ?? null, bias: null, eps: null }, { view, eps: options.eps });
}

function recordedGradients(dy: Tensor, x: Tensor, scale: Tensor | null, size: number, eps: number) {
  const [rows, g] = [x.reshape([-1, size]), dy.reshape([-1, size])];
  const squares = rows.square().sum([1], { keepDim: true });
  // The root has no slope at 0: it is taken of 1 there, and eps stands for it.
  const short = squares.lessEqual(eps * eps).detach();
  const length = where(short, 1, squares).sqrt();
  const divisor = where(short, eps > 0 ? eps : Number.POSITIVE_INFINITY, length);
  const unit = rows.div(divisor);
  const along = g.mul(unit).sum([1], { keepDim: true });
  return {
    x: () => {
      const across = g.sub(where(short, 0, along).mul(unit)).div(divisor);
      return (scale ? across.mul(scale) : across).reshape(x.shape);
    },
    scale: () => along.sum().reshape(scale!.shape),
  };
}
