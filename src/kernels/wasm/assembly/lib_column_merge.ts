// From sums per column to statistics, constants and gradients per channel, all in float64.
import {
  CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE, Sheet, blockCount, entryBytes, loadOr, loadStat, partAddress, spread,
} from "./lib_column_sheet";

/** What float32 loses of a mean; 0 for a mean that float32 cannot hold at all. */
@inline export function lowPart(mean: f64): f64 {
  const low = mean - <f64><f32>mean;
  return abs(low) < Infinity ? low : 0;
}

/** Statistics of one group from the moments of its columns in each block: the mean first, then squares about it. */
export function mergeGroup(a: Sheet, entry: usize, slot: usize, group: usize): void {
  const piece = <usize>a.merge * <usize>a.span, first = group * piece;
  const step = <usize>a.channels * <usize>a.span, width = <usize>a.width, restWidth = <usize>a.restWidth;
  const blocks = <usize>a.rowBlocks * <usize>a.runBlocks;
  const rest = <usize>a.x + (entry + 1) * entryBytes(a) - (restWidth << 2);
  let sum: f64 = 0;
  for (let block: usize = 0; block < blocks; block++) {
    const p = partAddress(a, 0, slot, block);
    let s: f64 = 0;
    for (let from = first; from < width; from += step) {
      for (let j = from; j < from + piece; j++) s += load<f64>(p + (j << 3));
    }
    sum += s * blockCount(a, block);
  }
  for (let from = first; from < restWidth; from += step) {
    for (let j = from; j < from + piece; j++) sum += <f64>load<f32>(rest + (j << 2));
  }
  const mean = sum / a.count;
  let m2: f64 = 0;
  for (let block: usize = 0; block < blocks; block++) {
    const p = partAddress(a, 0, slot, block), q = partAddress(a, 1, slot, block), n = blockCount(a, block);
    for (let from = first; from < width; from += step) {
      for (let j = from; j < from + piece; j++) {
        const d = load<f64>(p + (j << 3)) - mean;
        m2 += load<f64>(q + (j << 3)) + n * (d * d);
      }
    }
  }
  for (let from = first; from < restWidth; from += step) {
    for (let j = from; j < from + piece; j++) {
      const d = <f64>load<f32>(rest + (j << 2)) - mean;
      m2 += d * d;
    }
  }
  const at = (entry * (<usize>a.channels / <usize>a.merge) + group) << 3;
  store<f64>(<usize>a.mean + at, mean);
  store<f64>(<usize>a.variance + at, m2 / a.count);
}

/**
 * Constants of y = (x - mean) * rstd * weight + bias for a channel. The centred value is (x - meanHi) - meanLo; the second
 * subtraction is done here, once, as bias - meanLo * scale. That is no y = a * x + b: a float32 x that is not meanHi lies at
 * least |meanLo| from the mean, so this product is never larger than the largest |xhat * weight|, and rounds as little.
 */
export function writeConstants(a: Sheet, entry: usize, slot: usize, channel: usize): void {
  const stat = entry * (<usize>a.channels / <usize>a.merge) + channel / <usize>a.merge;
  const mean = loadStat(a.mean, stat, a.singleStats), variance = loadStat(a.variance, stat, a.singleStats);
  const scale = loadOr(a.weight, channel, 1) / Math.sqrt(variance + a.eps);
  spread(a, CENTRE, slot, channel, <f32>mean);
  spread(a, SCALE, slot, channel, <f32>scale);
  spread(a, OFFSET, slot, channel, <f32>(loadOr(a.bias, channel, 0) - lowPart(mean) * scale));
}

/** Statistics taken as constants: dx = dy * SCALE. The kernel that applies is that of the forward pass. */
export function writeFrozenConstants(a: Sheet, entry: usize, slot: usize, channel: usize): void {
  const stat = entry * (<usize>a.channels / <usize>a.merge) + channel / <usize>a.merge;
  const scale = loadOr(a.weight, channel, 1) / Math.sqrt(loadStat(a.variance, stat, a.singleStats) + a.eps);
  spread(a, CENTRE, slot, channel, 0);
  spread(a, SCALE, slot, channel, <f32>scale);
  spread(a, OFFSET, slot, channel, 0);
}

/** Sum of partial sum `which` over the blocks and columns of a channel. */
function channelSum(a: Sheet, which: usize, slot: usize, channel: usize): f64 {
  const span = <usize>a.span, step = <usize>a.channels * span, width = <usize>a.width;
  const blocks = <usize>a.rowBlocks * <usize>a.runBlocks;
  let sum: f64 = 0;
  for (let block: usize = 0; block < blocks; block++) {
    const p = partAddress(a, which, slot, block);
    for (let from = channel * span; from < width; from += step) {
      for (let j = from; j < from + span; j++) sum += load<f64>(p + (j << 3));
    }
  }
  return sum;
}

/** Sums of dy and dy * (x - mean) of one channel, from its columns; parts hold dy * (x - meanHi). */
export function mergeSums(a: Sheet, entry: usize, slot: usize, channel: usize): void {
  const stat = entry * (<usize>a.channels / <usize>a.merge) + channel / <usize>a.merge;
  const mean = loadStat(a.mean, stat, a.singleStats);
  let sumDy = channelSum(a, 0, slot, channel);
  let sumDyX = channelSum(a, 1, slot, channel) - lowPart(mean) * sumDy;
  const span = <usize>a.span, step = <usize>a.channels * span, restWidth = <usize>a.restWidth;
  const rest = (entry + 1) * entryBytes(a) - (restWidth << 2);
  for (let from = channel * span; from < restWidth; from += step) {
    for (let j = from; j < from + span; j++) {
      const dy = <f64>load<f32>(<usize>a.dy + rest + (j << 2));
      sumDy += dy;
      sumDyX += dy * (<f64>load<f32>(<usize>a.x + rest + (j << 2)) - mean);
    }
  }
  storeSums(a, entry, channel, sumDy, sumDyX);
}

@inline export function storeSums(a: Sheet, entry: usize, channel: usize, sumDy: f64, sumDyX: f64): void {
  const channels = <usize>a.channels, at = <usize>a.sums + ((entry * channels + channel) << 3);
  store<f64>(at, sumDy);
  store<f64>(at + ((<usize>a.batch * channels) << 3), sumDyX);
}

/** Constants that all channels of a group share, or that one of them has: see writeGradConstants. */
@unmanaged export class GradConstants { centre: f64; slope: f64; rstd: f64; shift: f64; }

/**
 * Of dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = weight * dy, what a group shares: `slope` = rstd^3 * mean(g * (x - mean)),
 * and `shift` = rstd * mean(g) less what meanLo adds to the slope's term.
 */
export function groupConstants(a: Sheet, entry: usize, group: usize, out: GradConstants): void {
  const channels = <usize>a.channels, merge = <usize>a.merge, plane = (<usize>a.batch * channels) << 3;
  const stat = entry * (channels / merge) + group;
  const mean = loadStat(a.mean, stat, a.singleStats);
  const rstd = 1 / Math.sqrt(loadStat(a.variance, stat, a.singleStats) + a.eps);
  let g: f64 = 0, gx: f64 = 0;
  for (let c = group * merge; c < (group + 1) * merge; c++) {
    const at = <usize>a.sums + ((entry * channels + c) << 3), w = loadOr(a.weight, c, 1);
    g += w * load<f64>(at);
    gx += w * load<f64>(at + plane);
  }
  out.centre = mean;
  out.rstd = rstd;
  out.slope = rstd * rstd * (rstd * (gx / a.count));
  out.shift = rstd * (g / a.count) - lowPart(mean) * out.slope;
}

/** The mean of a channel's own dy: subtracted first, so that dy with a large mean loses nothing to rounding. */
@inline export function dyCentre(a: Sheet, entry: usize, channel: usize): f32 {
  const sum = load<f64>(<usize>a.sums + ((entry * <usize>a.channels + channel) << 3));
  return <f32>(sum * <f64>a.merge / a.count);
}

/** Constants of dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE for the channels of a group. */
export function writeGradConstants(a: Sheet, entry: usize, slot: usize, group: usize, shared: GradConstants): void {
  groupConstants(a, entry, group, shared);
  const merge = <usize>a.merge;
  for (let c = group * merge; c < (group + 1) * merge; c++) {
    const scale = loadOr(a.weight, c, 1) * shared.rstd, centre = dyCentre(a, entry, c);
    spread(a, CENTRE, slot, c, <f32>shared.centre);
    spread(a, SCALE, slot, c, <f32>scale);
    spread(a, OFFSET, slot, c, <f32>(scale * <f64>centre - shared.shift));
    spread(a, SLOPE, slot, c, <f32>shared.slope);
    spread(a, DY_CENTRE, slot, c, centre);
  }
}
