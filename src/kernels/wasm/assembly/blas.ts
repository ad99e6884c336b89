// What stands beside the products of a BLAS library: the columns of a block of positions of one image, the way back, and
// biases. A unit is one block: unit = (image * channelBlocks + channel block) * lineBlocks + line block.
import { addRun, copyRun, zeroRun } from "./lib_columns";

/** The part of the argument block that these kernels read; src/kernels/blas/native.ts reads the rest of it. */
@unmanaged class Columns {
  image: f64; columns: f64; threadBytes: f64; double: f64;
  channels: f64; inDepth: f64; inHeight: f64; inWidth: f64; outDepth: f64; outHeight: f64; outWidth: f64;
  kernelDepth: f64; kernelHeight: f64; kernelWidth: f64; strideDepth: f64; strideHeight: f64; strideWidth: f64;
  padDepth: f64; padHeight: f64; padWidth: f64; dilationDepth: f64; dilationHeight: f64; dilationWidth: f64;
  /** A line is a row of the output, counted over depth and height. */
  channelBlock: f64; channelBlocks: f64; lines: f64; lineBlocks: f64;
  y: f64; bias: f64; outChannels: f64;
}

/** How many of the positions 0 .. out - 1, `stride` apart and `shift` off, lie below `limit`. */
// @ts-ignore: decorator
@inline function below(limit: i32, shift: i32, stride: i32, out: i32): i32 {
  return limit <= shift ? 0 : min(out, (limit - shift + stride - 1) / stride);
}

/** Lines of whole width that follow each other in the image too: one run, whose ends then lie in the padding. */
// @ts-ignore: decorator
@inline function wholeLines<T>(source: usize, q: usize, lines: i32, width: i32, shift: i32, back: bool): void {
  const left = max(0, -shift), right = max(0, shift);
  const at = <usize>left * sizeof<T>(), n = lines * width - left - right;
  const from = source + <usize>(shift + left) * sizeof<T>();
  if (!back) copyRun<T>(from, q + at, n);
  const pitch = <usize>width * sizeof<T>();
  let edge = left > 0 ? q : q + pitch - <usize>right * sizeof<T>();
  for (let column = left + right; column > 0; column--, edge += sizeof<T>()) {
    for (let i = 0, p = edge; i < lines; i++, p += pitch) store<T>(p, <T>0);
  }
  if (back) addRun<T>(from, q + at, n);
}

// @ts-ignore: decorator
@inline function oneLine<T>(source: usize, q: usize, first: i32, end: i32, width: i32, shift: i32, stride: i32, back: bool): void {
  let p = source + <usize>(first * stride + shift) * sizeof<T>();
  let to = q + <usize>first * sizeof<T>();
  if (!back) {
    zeroRun<T>(q, first);
    zeroRun<T>(q + <usize>end * sizeof<T>(), width - end);
  }
  if (stride == 1) {
    if (back) addRun<T>(p, to, end - first);
    else copyRun<T>(p, to, end - first);
    return;
  }
  const step = <usize>stride * sizeof<T>();
  for (let i = first; i < end; i++, p += step, to += sizeof<T>()) {
    if (back) store<T>(p, load<T>(p) + load<T>(to));
    else store<T>(to, load<T>(p));
  }
}

/** The rows of `columns` for one block, from the image; or with `back` added to the image. */
// @ts-ignore: decorator
@inline function move<T>(args: usize, unit: i32, worker: i32, back: bool): void {
  const a = changetype<Columns>(args);
  const channels = <i32>a.channels, inD = <i32>a.inDepth, inH = <i32>a.inHeight, inW = <i32>a.inWidth;
  const outH = <i32>a.outHeight, outW = <i32>a.outWidth, lineTotal = <i32>a.outDepth * outH;
  const kD = <i32>a.kernelDepth, kH = <i32>a.kernelHeight, kW = <i32>a.kernelWidth;
  const sD = <i32>a.strideDepth, sH = <i32>a.strideHeight, sW = <i32>a.strideWidth;
  const pD = <i32>a.padDepth, pH = <i32>a.padHeight, pW = <i32>a.padWidth;
  const dD = <i32>a.dilationDepth, dH = <i32>a.dilationHeight, dW = <i32>a.dilationWidth;
  const lineBlocks = <i32>a.lineBlocks, channelBlocks = <i32>a.channelBlocks;
  const lineBlock = unit % lineBlocks, part = unit / lineBlocks;
  const image = part / channelBlocks;
  const firstChannel = (part % channelBlocks) * <i32>a.channelBlock;
  const count = min(channels, firstChannel + <i32>a.channelBlock) - firstChannel;
  const firstLine = lineBlock * <i32>a.lines, endLine = min(lineTotal, firstLine + <i32>a.lines);
  const pitch = <usize>outW * sizeof<T>(), row = <usize>(endLine - firstLine) * pitch;
  const channelRows = <usize>(kD * kH * kW) * row;
  const plane = <usize>(inD * inH * inW) * sizeof<T>();
  const down = <usize>(sH * inW) * sizeof<T>();
  const whole = sH == 1 && sW == 1 && outW == inW;
  const source = <usize>a.image + <usize>(image * channels + firstChannel) * plane;
  let q = <usize>a.columns + <usize>worker * <usize>a.threadBytes;
  if (back && lineBlock == 0) zeroRun<T>(source, count * inD * inH * inW);
  // Channels come innermost: what a tap meets is the same for all of them.
  for (let i = 0; i < kD; i++) {
    for (let j = 0; j < kH; j++) {
      const shiftH = j * dH - pH;
      const firstH = below(0, shiftH, sH, outH), endH = below(inH, shiftH, sH, outH);
      for (let k = 0; k < kW; k++, q += row) {
        const shift = k * dW - pW;
        const first = below(0, shift, sW, outW), end = below(inW, shift, sW, outW);
        for (let line = firstLine; line < endLine;) {
          const d = line / outH, h = line - d * outH;
          const segment = min(endLine - line, outH - h);
          const atD = d * sD - pD + i * dD;
          // Lines of this segment whose source exists: from `top`, `met` of them.
          const inside = atD >= 0 && atD < inD && first < end;
          const top = inside ? min(segment, max(0, firstH - h)) : segment;
          const met = inside ? max(0, min(segment, endH - h) - top) : 0;
          const above = top * outW, under = (segment - top - met) * outW;
          let from = source + <usize>((atD * inH + (h + top) * sH + shiftH) * inW) * sizeof<T>();
          let to = q + <usize>(line - firstLine + top) * pitch;
          for (let c = 0; c < count; c++, from += plane, to += channelRows) {
            if (!back) {
              if (above > 0) zeroRun<T>(to - <usize>above * sizeof<T>(), above);
              if (under > 0) zeroRun<T>(to + <usize>met * pitch, under);
            }
            if (met == 0) continue;
            if (whole) wholeLines<T>(from, to, met, outW, shift, back);
            else {
              for (let n = 0, p = from, r = to; n < met; n++, p += down, r += pitch) {
                oneLine<T>(p, r, first, end, outW, shift, sW, back);
              }
            }
          }
          line += segment;
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline function spread<T>(args: usize, unit: i32): void {
  const a = changetype<Columns>(args);
  const outW = <i32>a.outWidth, lineTotal = <i32>a.outDepth * <i32>a.outHeight;
  const lineBlocks = <i32>a.lineBlocks, lines = <i32>a.lines, outChannels = <i32>a.outChannels;
  const line = (unit % lineBlocks) * lines, n = min(lines, lineTotal - line) * outW;
  const positions = <usize>(lineTotal * outW) * sizeof<T>();
  let q = <usize>a.y + <usize>(unit / lineBlocks * outChannels) * positions + <usize>(line * outW) * sizeof<T>();
  for (let c = 0; c < outChannels; c++, q += positions) {
    const value = load<T>(<usize>a.bias + <usize>c * sizeof<T>()), end = q + <usize>n * sizeof<T>();
    let p = q;
    const wide = v128.splat<T>(value);
    for (; p + 16 <= end; p += 16) v128.store(p, wide);
    for (; p < end; p += sizeof<T>()) store<T>(p, value);
  }
}

function columnsSingle(args: usize, unit: i32, worker: i32): void { move<f32>(args, unit, worker, false); }
function columnsDouble(args: usize, unit: i32, worker: i32): void { move<f64>(args, unit, worker, false); }
function imageSingle(args: usize, unit: i32, worker: i32): void { move<f32>(args, unit, worker, true); }
function imageDouble(args: usize, unit: i32, worker: i32): void { move<f64>(args, unit, worker, true); }

/** Columns of a block: row (channel, tap), a column for each position; 0 where the tap lies in the padding. */
export function blas_columns(args: usize, lo: i32, hi: i32, worker: i32): void {
  if (changetype<Columns>(args).double != 0) columnsDouble(args, lo, worker);
  else columnsSingle(args, lo, worker);
}

/** Adds columns to the image that they were taken from; the first block of lines sets the image's part to 0 before. */
export function blas_image(args: usize, lo: i32, hi: i32, worker: i32): void {
  if (changetype<Columns>(args).double != 0) imageDouble(args, lo, worker);
  else imageSingle(args, lo, worker);
}

/** Sets a block of y to the bias. */
export function blas_bias(args: usize, lo: i32, hi: i32, worker: i32): void {
  if (changetype<Columns>(args).double != 0) spread<f64>(args, lo);
  else spread<f32>(args, lo);
}

/** The same for products; src/kernels/blas/native.ts reads the rest of it. */
@unmanaged class Product {
  y: f64; bias: f64; double: f64; n: f64; m: f64; k: f64; a: f64; b: f64;
  aBatch: f64; bBatch: f64; aRow: f64; bColumn: f64; rowBlock: f64; rowBlocks: f64; columnBlock: f64; columnBlocks: f64;
}

/** Sets the block of y that a unit of a product computes to the bias, row by row. */
export function blas_bias_rows(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Product>(args);
  const words = a.double != 0 ? 2 : 1, pitch = <usize>a.n * words << 2;
  const column = (lo % <i32>a.columnBlocks) * <i32>a.columnBlock, part = lo / <i32>a.columnBlocks;
  const row = (part % <i32>a.rowBlocks) * <i32>a.rowBlock, matrix = part / <i32>a.rowBlocks;
  const width = min(<i32>a.columnBlock, <i32>a.n - column) * words;
  const from = <usize>a.bias + (<usize>(column * words) << 2);
  let q = <usize>a.y + <usize>(matrix * <i32>a.m + row) * pitch + (<usize>(column * words) << 2);
  for (let r = min(<i32>a.rowBlock, <i32>a.m - row); r > 0; r--, q += pitch) copyRun<f32>(from, q, width);
}
