import { numberOfElements, type Shape } from "../base/shape.js";
import type { ColumnView } from "./views.js";

/** Statistics over chosen axes: a column view of x, or of x with its axes in another order. */
export interface AxesView {
  readonly view: ColumnView;
  /** The order of axes to bring x into first, kept ones before the others; null where x will do as it lies. */
  readonly order: readonly number[] | null;
}

/**
 * One statistic for each position of the axes that are not among `axes` (sorted, without repeats), over those that are.
 * A column view spans runs of kept, spanned, kept and spanned axes, in this order; what does not read so is permuted.
 */
export function axesView(shape: Shape, axes: readonly number[]): AxesView {
  const runs = [1, 1, 1, 1];
  let run = 0;
  for (const [axis, length] of shape.entries()) {
    // An axis of length 1 belongs to either kind.
    if (length !== 1 && axes.includes(axis) !== (run % 2 === 1)) run++;
    if (run < 4) runs[run]! *= length;
  }
  if (run >= 4) {
    const kept = shape.map((_, i) => i).filter((i) => !axes.includes(i));
    const lengthOf = (list: readonly number[]) => numberOfElements(list.map((i) => shape[i]!));
    const view = { batch: 1, outer: 1, channels: lengthOf(kept), inner: lengthOf(axes), merge: 1 };
    return { view, order: [...kept, ...axes] };
  }
  const [batch, outer, channels, inner] = runs as [number, number, number, number];
  // Rows: the statistics are the view's channels, so that they are dealt with side by side.
  if (channels === 1 && inner === 1)
    return { view: { batch: 1, outer: 1, channels: batch, inner: outer, merge: 1 }, order: null };
  return { view: { batch, outer, channels, inner, merge: 1 }, order: null };
}
