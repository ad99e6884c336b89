// What backward keeps of a row whose weight differs from element to element.
import { elementDxRow } from "./lib_rows_grad";

/** What the shares of a row need, in float32; then its sums of g and of g * (x - hi), g = dy * weight. */
@unmanaged export class RowTerms { hi: f32; lo: f32; rstd: f32; unused: f32; sum: f64; sumX: f64; }
export const TERMS: usize = 32;

/** Rows whose shares are added in registers, in float32. */
export const SHORT_BLOCK: usize = 8;
/** Elements of which all rows have their shares added before the next ones. */
export const SPAN: usize = 256;

/**
 * dx = dy * rstd * weight - ((x - hi) * k + s), from the sums of g and of g * (x - hi) (0 and that of g * x without a
 * mean); hi + rest is the mean, `scale` one over the number of elements of the row. n of them are written.
 */
@inline export function elementDx(
  x: usize, dy: usize, w: usize, dx: usize, n: usize, hi: f32, rest: f64, rstd: f64, sum: f64, sumX: f64, scale: f64,
): void {
  const k = (sumX - rest * sum) * rstd * rstd * scale;
  elementDxRow(x, dy, w, dx, n, hi, <f32>rstd, <f32>(rstd * k), <f32>(rstd * (sum * scale - rest * k)));
}
