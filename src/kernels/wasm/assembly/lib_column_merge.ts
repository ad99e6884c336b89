// From sums per column to statistics, constants and gradients per channel, all in float64.
// The functions take ranges, so that the arguments, which are doubles, become whole numbers once for many channels.
import {
  CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE, Sheet, entryBytes, loadOr, loadStat, partAddress, spread, tableOf,
} from "./lib_column_sheet";
import { sumLanes } from "./lib_moments";

/** What float32 loses of a mean; 0 for a mean that float32 cannot hold at all. */
@inline export function lowPart(mean: f64): f64 {
  const low = mean - <f64><f32>mean;
  return abs(low) < Infinity ? low : 0;
}

/** Sum of `n` doubles. */
@inline function sumOf(p: usize, n: usize): f64 {
  let a = f64x2.splat(0), b = a, sum: f64 = 0;
  const end = p + (n << 3);
  for (; p + 32 <= end; p += 32) {
    a = f64x2.add(a, v128.load(p));
    b = f64x2.add(b, v128.load(p, 16));
  }
  for (; p < end; p += 8) sum += load<f64>(p);
  return sum + sumLanes(f64x2.add(a, b));
}

/** Sum of (p[i] - mean)^2 over `n` doubles. */
@inline function squaresOf(p: usize, n: usize, mean: f64): f64 {
  const m = f64x2.splat(mean), end = p + (n << 3);
  let a = f64x2.splat(0), b = a, sum: f64 = 0;
  for (; p + 32 <= end; p += 32) {
    const c = f64x2.sub(v128.load(p), m), d = f64x2.sub(v128.load(p, 16), m);
    a = f64x2.add(a, f64x2.mul(c, c));
    b = f64x2.add(b, f64x2.mul(d, d));
  }
  for (; p < end; p += 8) {
    const d = load<f64>(p) - mean;
    sum += d * d;
  }
  return sum + sumLanes(f64x2.add(a, b));
}

/**
 * Statistics of the groups [g0, g1) from the moments of their columns in each block: the mean first, then squares about
 * it.
 */
export function mergeGroups(a: Sheet, entry: usize, slot: usize, g0: usize, g1: usize): void {
  const span = <usize>a.span, piece = <usize>a.merge * span, step = <usize>a.channels * span, width = <usize>a.width;
  const runBlocks = <usize>a.runBlocks, blocks = <usize>a.rowBlocks * runBlocks, stride = <usize>a.partStride << 3;
  const means = partAddress(a, 0, slot, 0), squares = partAddress(a, 1, slot, 0);
  // All blocks hold n samples of a column, but the last of the rows and the last of the runs.
  const rowCount = a.blockRows, lastRows = a.rows - rowCount * (a.rowBlocks - 1);
  const runCount = a.blockRun, lastRun = a.run - runCount * (a.runBlocks - 1);
  const restWidth = <usize>a.restWidth, rest = <usize>a.x + (entry + 1) * entryBytes(a) - (restWidth << 2);
  const count = a.count;
  const at = (entry * (<usize>a.channels / <usize>a.merge)) << 3, meanOut = <usize>a.mean + at,
    varianceOut = <usize>a.variance + at;
  let g = g0;
  if (width == step && piece == 1 && runBlocks == 1) {
    // A column is a statistic: two at a time, by the very operations of the loop below.
    const n = f64x2.splat(rowCount * lastRun), last = f64x2.splat(lastRows * lastRun), counts = f64x2.splat(count),
      zero = f64x2.splat(0);
    for (; g + 2 <= g1; g += 2) {
      let sum = zero, m2 = zero, p = means + (g << 3), q = squares + (g << 3);
      for (let block: usize = 1; block < blocks; block++, p += stride) sum = f64x2.add(sum, f64x2.mul(n, v128.load(p)));
      sum = f64x2.add(sum, f64x2.mul(last, v128.load(p)));
      const mean = f64x2.div(sum, counts);
      p = means + (g << 3);
      for (let block: usize = 1; block < blocks; block++, p += stride, q += stride) {
        const d = f64x2.sub(v128.load(p), mean);
        m2 = f64x2.add(m2, f64x2.add(v128.load(q), f64x2.mul(n, f64x2.mul(d, d))));
      }
      const d = f64x2.sub(v128.load(p), mean);
      m2 = f64x2.add(m2, f64x2.add(v128.load(q), f64x2.mul(last, f64x2.mul(d, d))));
      v128.store(meanOut + (g << 3), mean);
      v128.store(varianceOut + (g << 3), f64x2.div(m2, counts));
    }
  }
  for (; g < g1; g++) {
    const first = g * piece;
    let sum: f64 = 0;
    for (let block: usize = 0, part: usize = 0, p = means; block < blocks; block++, p += stride) {
      const n = (block + runBlocks < blocks ? rowCount : lastRows) * (part + 1 < runBlocks ? runCount : lastRun);
      part = part + 1 < runBlocks ? part + 1 : 0;
      for (let from = first; from < width; from += step) sum += n * sumOf(p + (from << 3), piece);
    }
    for (let from = first; from < restWidth; from += step) {
      for (let j = from; j < from + piece; j++) sum += <f64>load<f32>(rest + (j << 2));
    }
    const mean = sum / count;
    let m2: f64 = 0;
    const toSquares = squares - means;
    for (let block: usize = 0, part: usize = 0, p = means; block < blocks; block++, p += stride) {
      const n = (block + runBlocks < blocks ? rowCount : lastRows) * (part + 1 < runBlocks ? runCount : lastRun);
      part = part + 1 < runBlocks ? part + 1 : 0;
      for (let from = first; from < width; from += step) {
        m2 += sumOf(p + toSquares + (from << 3), piece) + n * squaresOf(p + (from << 3), piece, mean);
      }
    }
    for (let from = first; from < restWidth; from += step) {
      for (let j = from; j < from + piece; j++) {
        const d = <f64>load<f32>(rest + (j << 2)) - mean;
        m2 += d * d;
      }
    }
    store<f64>(meanOut + (g << 3), mean);
    store<f64>(varianceOut + (g << 3), m2 / count);
  }
}

/**
 * Constants of y = (x - mean) * rstd * weight + bias for the channels [c0, c1). The centred value is (x - meanHi) -
 * meanLo; the second subtraction is done here, once, as bias - meanLo * scale. That is no y = a * x + b: a float32 x
 * that is not meanHi lies at least |meanLo| from the mean, so this product is never larger than the largest |xhat *
 * weight|, and rounds as little.
 *
 * With `frozen` the statistics are constants of the gradient: dx = dy * SCALE, by the kernel that applies in the
 * forward pass.
 */
export function writeConstants(a: Sheet, entry: usize, slot: usize, c0: usize, c1: usize, frozen: bool): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, span = <usize>a.span, step = channels * span,
    width = <usize>a.width;
  const table = tableOf(a, slot), tableStep = <usize>a.tableStep, groups = entry * (channels / merge);
  const weight = <usize>a.weight, bias = <usize>a.bias, eps = a.eps;
  const means = <usize>a.mean, variances = <usize>a.variance, singleStats = a.singleStats != 0;
  for (let c = c0; c < c1; c++) {
    const stat = groups + (merge == 1 ? c : c / merge);
    const mean = frozen ? 0 : loadStat(means, stat, singleStats);
    const scale = loadOr(weight, c, 1) / Math.sqrt(loadStat(variances, stat, singleStats) + eps);
    spread(table + CENTRE, tableStep, c, span, step, width, <f32>mean);
    spread(table + SCALE, tableStep, c, span, step, width, <f32>scale);
    const offset: f32 = frozen ? 0 : <f32>(loadOr(bias, c, 0) - lowPart(mean) * scale);
    spread(table + OFFSET, tableStep, c, span, step, width, offset);
  }
}

/** What the sums of the gradient subtract from x, for `n` columns from `column` on. */
export function writeCentres(a: Sheet, entry: usize, column: usize, n: usize, out: usize): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, span = <usize>a.span, step = channels * span;
  const means = <usize>a.mean, singleStats = a.singleStats != 0, first = entry * (channels / merge);
  if (span == 1 && merge == 1 && <usize>a.width == step && !singleStats) {
    let p = means + ((first + column) << 3);
    for (const end = out + (n << 2); out < end; out += 4, p += 8) store<f32>(out, <f32>load<f64>(p));
    return;
  }
  for (let j: usize = 0; j < n; j++) {
    const group = (column + j) % step / (span * merge);
    store<f32>(out + (j << 2), <f32>loadStat(means, first + group, singleStats));
  }
}

/** Sums of dy and dy * (x - mean) of the channels [c0, c1), from their columns; parts hold dy * (x - meanHi). */
export function mergeSums(a: Sheet, entry: usize, slot: usize, c0: usize, c1: usize): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, span = <usize>a.span, step = channels * span,
    width = <usize>a.width;
  const blocks = <usize>a.rowBlocks * <usize>a.runBlocks, stride = <usize>a.partStride << 3;
  const parts = partAddress(a, 0, slot, 0), products = partAddress(a, 1, slot, 0);
  const restWidth = <usize>a.restWidth, rest = (entry + 1) * entryBytes(a) - (restWidth << 2);
  const dyRest = <usize>a.dz + rest, xRest = <usize>a.x + rest;
  const means = <usize>a.mean, singleStats = a.singleStats != 0, groups = entry * (channels / merge);
  const out = <usize>a.sums + ((entry * channels) << 3), plane = (<usize>a.batch * channels) << 3;
  const columns = span == 1 && width == step;
  for (let c = c0; c < c1; c++) {
    const mean = loadStat(means, groups + (merge == 1 ? c : c / merge), singleStats);
    let sumDy: f64 = 0, sumDyX: f64 = 0;
    for (let block: usize = 0, p = parts, q = products; block < blocks; block++, p += stride, q += stride) {
      if (columns) {
        sumDy += load<f64>(p + (c << 3));
        sumDyX += load<f64>(q + (c << 3));
        continue;
      }
      for (let from = c * span; from < width; from += step) {
        sumDy += sumOf(p + (from << 3), span);
        sumDyX += sumOf(q + (from << 3), span);
      }
    }
    sumDyX -= lowPart(mean) * sumDy;
    for (let from = c * span; from < restWidth; from += step) {
      for (let j = from; j < from + span; j++) {
        const dy = <f64>load<f32>(dyRest + (j << 2));
        sumDy += dy;
        sumDyX += dy * (<f64>load<f32>(xRest + (j << 2)) - mean);
      }
    }
    store<f64>(out + (c << 3), sumDy);
    store<f64>(out + (c << 3) + plane, sumDyX);
  }
}

/** What the channels of a group share in dx. */
@unmanaged export class GradConstants { slope: f64; shift: f64; }

/**
 * Of dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = weight * dy: `slope` = rstd^3 * mean(g * (x - mean)), and
 * `shift` = rstd * mean(g) less what meanLo adds to the term of the slope. `sums` are those of the entry, `first` is
 * the group's first channel, `share` 1 / count.
 */
@inline export function groupConstants(
  sums: usize, plane: usize, weight: usize, first: usize, merge: usize, mean: f64, rstd: f64, share: f64,
  out: GradConstants,
): void {
  let g: f64 = 0, gx: f64 = 0;
  for (let c = first; c < first + merge; c++) {
    const w = loadOr(weight, c, 1);
    g += w * load<f64>(sums + (c << 3));
    gx += w * load<f64>(sums + (c << 3) + plane);
  }
  out.slope = rstd * rstd * (rstd * gx * share);
  out.shift = rstd * g * share - lowPart(mean) * out.slope;
}

/**
 * Constants of dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE for the channels of the groups [g0, g1).
 */
export function writeGradConstants(
  a: Sheet, entry: usize, slot: usize, g0: usize, g1: usize, shared: GradConstants,
): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, span = <usize>a.span, step = channels * span,
    width = <usize>a.width;
  const table = tableOf(a, slot), tableStep = <usize>a.tableStep, weight = <usize>a.weight;
  const sums = <usize>a.sums + ((entry * channels) << 3), plane = (<usize>a.batch * channels) << 3, eps = a.eps;
  const counts = <usize>a.counts, own = a.count;
  const means = <usize>a.mean, variances = <usize>a.variance, singleStats = a.singleStats != 0,
    stats = entry * (channels / merge);
  for (let g = g0; g < g1; g++) {
    const share = 1 / (counts ? load<f64>(counts + ((stats + g) << 3)) : own), perChannel = <f64>merge * share;
    const mean = loadStat(means, stats + g, singleStats),
      rstd = 1 / Math.sqrt(loadStat(variances, stats + g, singleStats) + eps);
    groupConstants(sums, plane, weight, g * merge, merge, mean, rstd, share, shared);
    for (let c = g * merge; c < (g + 1) * merge; c++) {
      // The mean of a channel's own dy is subtracted first, so that dy with a large mean loses nothing to rounding.
      const scale = loadOr(weight, c, 1) * rstd, centre = <f32>(load<f64>(sums + (c << 3)) * perChannel);
      spread(table + CENTRE, tableStep, c, span, step, width, <f32>mean);
      spread(table + SCALE, tableStep, c, span, step, width, <f32>scale);
      spread(table + OFFSET, tableStep, c, span, step, width, <f32>(scale * <f64>centre - shared.shift));
      spread(table + SLOPE, tableStep, c, span, step, width, <f32>shared.slope);
      spread(table + DY_CENTRE, tableStep, c, span, step, width, centre);
    }
  }
}

/** dWeight and dBias of the channels [c0, c1) from the sums of each batch entry. */
export function affineGrad(a: Sheet, c0: usize, c1: usize): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, groups = channels / merge, batch = <usize>a.batch;
  const sums = <usize>a.sums, plane = (batch * channels) << 3, dBiasOut = <usize>a.dBias, dWeightOut = <usize>a.dWeight;
  const variances = <usize>a.variance, singleStats = a.singleStats != 0, eps = a.eps;
  for (let c = c0; c < c1; c++) {
    const group = merge == 1 ? c : c / merge;
    let dBias: f64 = 0, dWeight: f64 = 0;
    for (let b: usize = 0; b < batch; b++) {
      const at = sums + ((b * channels + c) << 3);
      dBias += load<f64>(at);
      dWeight += load<f64>(at + plane) / Math.sqrt(loadStat(variances, b * groups + group, singleStats) + eps);
    }
    if (dBiasOut != 0) store<f32>(dBiasOut + (c << 2), <f32>dBias);
    if (dWeightOut != 0) store<f32>(dWeightOut + (c << 2), <f32>dWeight);
  }
}
