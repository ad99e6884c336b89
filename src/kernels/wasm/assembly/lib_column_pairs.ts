// What lib_column_merge.ts does for the plain case, two channels at a time: one column to a channel, one channel to a
// statistic, every row in a block. There a few rows leave little work but this.
import { CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE, Sheet, partAddress, placeOf, tableOf } from "./lib_column_sheet";

/** Whether columns, channels and statistics are one and the same. */
@inline export function isPlain(a: Sheet): bool {
  return a.merge == 1 && a.span == 1 && a.width == a.channels && a.restWidth == 0;
}

@inline function wideOr(base: usize, c: usize, missing: f64): v128 {
  return base ? f64x2.promote_low_f32x4(v128.load64_zero(base + (c << 2))) : f64x2.splat(missing);
}

@inline function statistics(base: usize, at: usize, single: bool): v128 {
  return single ? f64x2.promote_low_f32x4(v128.load64_zero(base + (at << 2))) : v128.load(base + (at << 3));
}

/** What float32 loses of two means; 0 for means that float32 cannot hold. */
@inline function lowParts(mean: v128): v128 {
  const low = f64x2.sub(mean, f64x2.promote_low_f32x4(f32x4.demote_f64x2_zero(mean)));
  return v128.and(low, f64x2.lt(f64x2.abs(low), f64x2.splat(Infinity)));
}

@inline function storePair(p: usize, v: v128): void { v128.store64_lane(p, f32x4.demote_f64x2_zero(v), 0); }

@inline function reciprocalRoot(variance: v128, eps: f64): v128 {
  return f64x2.div(f64x2.splat(1), f64x2.sqrt(f64x2.add(variance, f64x2.splat(eps))));
}

/** writeConstants for the channels from c0, an even number, to the last pair before c1. Gives the channel it got to. */
export function pairConstants(a: Sheet, entry: usize, slot: usize, c0: usize, c1: usize, frozen: bool): usize {
  const table = tableOf(a, slot), step = <usize>a.tableStep, eps = a.eps;
  const weight = <usize>a.weight, bias = <usize>a.bias, first = entry * <usize>a.channels;
  const means = <usize>a.mean, variances = <usize>a.variance, single = a.singleStats != 0;
  const zero = f64x2.splat(0);
  let c = c0;
  for (; c + 2 <= c1; c += 2) {
    const p = table + placeOf(c, step);
    const scale = f64x2.mul(wideOr(weight, c, 1), reciprocalRoot(statistics(variances, first + c, single), eps));
    storePair(p + SCALE, scale);
    if (frozen) {
      storePair(p + CENTRE, zero);
      storePair(p + OFFSET, zero);
    } else {
      const mean = statistics(means, first + c, single);
      storePair(p + CENTRE, mean);
      storePair(p + OFFSET, f64x2.sub(wideOr(bias, c, 0), f64x2.mul(lowParts(mean), scale)));
    }
  }
  return c;
}

/**
 * mergeSums, and with a place for dx writeGradConstants; where there is one batch entry, dWeight and dBias too.
 * Channels as for pairConstants.
 */
export function pairSums(a: Sheet, entry: usize, slot: usize, c0: usize, c1: usize): usize {
  const table = tableOf(a, slot), step = <usize>a.tableStep, weight = <usize>a.weight, eps = a.eps;
  const channels = <usize>a.channels, means = <usize>a.mean, variances = <usize>a.variance,
    first = entry * channels, single = a.singleStats != 0;
  const stride = <usize>a.partStride << 3, parts = partAddress(a, 0, slot, 0), products = partAddress(a, 1, slot, 0);
  const blocks = <usize>a.rowBlocks * <usize>a.runBlocks, hasDx = a.y != 0;
  const out = <usize>a.sums + ((entry * channels) << 3), plane = (<usize>a.batch * channels) << 3;
  const alone = a.batch == 1, dWeight = alone ? <usize>a.dWeight : 0, dBias = alone ? <usize>a.dBias : 0;
  const share = f64x2.splat(1 / a.count);
  let c = c0;
  for (; c + 2 <= c1; c += 2) {
    let sum = f64x2.splat(0), product = sum, p = parts + (c << 3), q = products + (c << 3);
    for (let block: usize = 0; block < blocks; block++, p += stride, q += stride) {
      sum = f64x2.add(sum, v128.load(p));
      product = f64x2.add(product, v128.load(q));
    }
    const mean = statistics(means, first + c, single), low = lowParts(mean);
    product = f64x2.sub(product, f64x2.mul(low, sum));
    v128.store(out + (c << 3), sum);
    v128.store(out + (c << 3) + plane, product);
    const root = reciprocalRoot(statistics(variances, first + c, single), eps);
    if (dBias) storePair(dBias + (c << 2), sum);
    if (dWeight) storePair(dWeight + (c << 2), f64x2.mul(product, root));
    if (!hasDx) continue;
    const w = wideOr(weight, c, 1), scale = f64x2.mul(w, root), t = table + placeOf(c, step);
    const slope = f64x2.mul(f64x2.mul(root, root), f64x2.mul(f64x2.mul(root, f64x2.mul(w, product)), share));
    const shift = f64x2.sub(f64x2.mul(f64x2.mul(root, f64x2.mul(w, sum)), share), f64x2.mul(low, slope));
    const centre = f32x4.demote_f64x2_zero(f64x2.mul(sum, share));
    storePair(t + CENTRE, mean);
    storePair(t + SCALE, scale);
    storePair(t + OFFSET, f64x2.sub(f64x2.mul(scale, f64x2.promote_low_f32x4(centre)), shift));
    storePair(t + SLOPE, slope);
    v128.store64_lane(t + DY_CENTRE, centre, 0);
  }
  return c;
}
