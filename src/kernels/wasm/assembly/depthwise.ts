import { copyRow, copyRun, zeroRun } from "./lib_conv";
import { dots2, dots3, row3, row5, row7, rows3x3 } from "./lib_depthwise";

/**
 * Depthwise convolution over [planes, height, width]: output row h reads rows h * stride + origin + tap of the source.
 * For the input gradient `spread` is the stride that the convolution had: the source is dy with spread - 1 zeros between
 * its rows and columns, and kernels are turned by 180 degrees. Lengths are in elements.
 */
@unmanaged class Depthwise {
  source: f64; weight: f64; target: f64; bias: f64; scratch: f64; scratchStride: f64; batch: f64; channels: f64;
  sourceHeight: f64; sourceWidth: f64; targetHeight: f64; targetWidth: f64; kernelHeight: f64; kernelWidth: f64;
  strideHeight: f64; strideWidth: f64; originHeight: f64; originWidth: f64; spreadHeight: f64; spreadWidth: f64;
  /** Rows of outputs of a unit; the copy's columns, sorted by their remainder by the stride, `phaseLength` each. */
  unitRows: f64; units: f64; phases: f64; phaseLength: f64; flip: f64;
}

/** A row of dy with zeros between its elements: dst[j] is element (first + j) / spread. */
function spreadRow(dst: usize, row: usize, first: i32, spread: i32, n: i32, width: i32): void {
  zeroRun(dst, n);
  for (let q = first > 0 ? (first + spread - 1) / spread : 0; q < width; q++) {
    const j = q * spread - first;
    if (j >= n) return;
    store<f32>(dst + (<usize>j << 2), load<f32>(row + (<usize>q << 2)));
  }
}

/** dst[j] = src[2 j], reading nothing beyond the last. */
function copyEven(dst: usize, src: usize, n: i32): void {
  for (let j = 0; j < n; j += 4) {
    if (n < 4) {
      store<f32>(dst + (<usize>j << 2), load<f32>(src + (<usize>j << 3)));
      j -= 3;
      continue;
    }
    j = min(j, n - 4);
    const from = src + (<usize>j << 3);
    v128.store(dst + (<usize>j << 2), v128.shuffle<f32>(v128.load(from), v128.load(from, 12), 0, 2, 5, 7));
  }
}

/**
 * Copies `rows` rows of a plane, padded, from row `first` on (counted in the spread source). The copy was zeroed when the
 * launch began, and columns of padding are the same for all planes; rows are too unless planes are cut (`cut`).
 */
function copyPlane(s: Depthwise, plane: usize, first: i32, rows: i32, cut: bool, dst: usize): void {
  const height = <i32>s.sourceHeight, width = <i32>s.sourceWidth, left = <i32>s.originWidth, phases = <i32>s.phases;
  const spread = <i32>s.spreadHeight, spreadWidth = <i32>s.spreadWidth, length = <i32>s.phaseLength;
  const stride = <i32>s.strideWidth, bytes = <usize>(phases * length) << 2;
  const skipped = max(0, left), padding = max(0, -left), n = min(width - skipped, length - padding);
  for (let h = first; h < first + rows; h++, dst += bytes) {
    const q = spread == 1 ? h : h / spread;
    if (h < 0 || q >= height || q * spread != h) {
      if (cut) memory.fill(dst, 0, bytes);
      continue;
    }
    const row = plane + ((<usize>q * <usize>width) << 2);
    if (spreadWidth > 1) spreadRow(dst, row, left, spreadWidth, length, width);
    else if (stride == 1) copyRun(dst + (<usize>padding << 2), row + (<usize>skipped << 2), n);
    else {
      for (let p = 0; p < phases; p++) {
        const to = dst + (<usize>(p * length) << 2), from = left + p;
        if (stride == 2) {
          const zeros = from < 0 ? (1 - from) >> 1 : 0, at = from + 2 * zeros;
          copyEven(to + (<usize>zeros << 2), row + (<usize>at << 2), min(length - zeros, (width - at + 1) >> 1));
        } else copyRow(to, row, from, stride, length, width);
      }
    }
  }
}

/** Floats of the copy of the rows that a unit reads. */
// @ts-ignore: decorator
@inline function copyFloats(s: Depthwise): usize {
  return <usize>((s.unitRows - 1) * s.strideHeight + s.kernelHeight) * <usize>s.phases * <usize>s.phaseLength;
}

/** Unit u is `unitRows` rows of one plane of the target. */
export function conv_depthwise(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Depthwise>(args);
  const channels = <i32>s.channels, height = <i32>s.targetHeight, width = <i32>s.targetWidth, units = <i32>s.units;
  const kernelHeight = <i32>s.kernelHeight, kernelWidth = <i32>s.kernelWidth, taps = <usize>(kernelHeight * kernelWidth);
  const stride = <i32>s.strideHeight, spread = <i32>s.spreadHeight, phases = <usize>s.phases;
  const lineBytes = (phases * <usize>s.phaseLength) << 2, quads = (width + 3) & ~3;
  const sourceBytes = (<usize>s.sourceHeight * <usize>s.sourceWidth) << 2;
  // Weights of the channel as they are or turned, a row of sums, then the copy.
  const kernel = <usize>s.scratch + <usize>worker * <usize>s.scratchStride;
  const line = kernel + ((taps + 15 & ~15) << 2), copy = line + (<usize>(quads + 15 & ~15) << 2);
  // Where the taps 1 and 2 of a row of 3 lie: beside tap 0, or in other phases.
  const second: usize = phases == 1 ? 4 : <usize>s.phaseLength << 2;
  const third: usize = phases == 1 ? 8 : phases == 2 ? 4 : <usize>s.phaseLength << 3;
  const whole = kernelHeight == 3 && kernelWidth == 3 && phases == 1 && spread == 1 && width >= 4;
  memory.fill(copy, 0, copyFloats(s) << 2);
  for (let u = lo; u < hi; u++) {
    const plane = u / units, channel = <usize>(plane % channels);
    const first = u % units * <i32>s.unitRows, rows = min(<i32>s.unitRows, height - first);
    for (let i: usize = 0; i < taps; i++) {
      const from = s.flip != 0 ? taps - 1 - i : i;
      store<f32>(kernel + (i << 2), load<f32>(<usize>s.weight + ((channel * taps + from) << 2)));
    }
    const bias: f32 = s.bias == 0 ? 0 : load<f32>(<usize>s.bias + (channel << 2));
    const top = <i32>s.originHeight + first * stride;
    copyPlane(s, <usize>s.source + <usize>plane * sourceBytes, top, (rows - 1) * stride + kernelHeight, units > 1, copy);
    let y = <usize>s.target + ((<usize>(plane * height + first) * <usize>width) << 2);
    for (let r = 0; r < rows; r++, y += <usize>width << 2) {
      const from = copy + <usize>(r * stride) * lineBytes;
      if (whole) {
        rows3x3(from, from + lineBytes, from + lineBytes * 2, kernel, y, width, bias);
        continue;
      }
      for (let i = 0; i < quads; i += 4) v128.store(line + (<usize>i << 2), f32x4.splat(bias));
      for (let i = 0; i < kernelHeight; i++) {
        if (spread > 1 && (top + r + i) % spread != 0) continue; // a row of zeros
        const a = from + <usize>i * lineBytes, w = kernel + (<usize>(i * kernelWidth) << 2);
        if (kernelWidth == 3) row3(a, a + second, a + third, w, line, quads);
        else if (kernelWidth == 5) row5(a, w, line, quads);
        else row7(a, w, line, quads);
      }
      copyRun(y, line, width);
    }
  }
}

/** Weight gradient of a channel (unit u) over all images, with dy as `target`. Sums of a plane are float32, their sum float64. */
export function conv_depthwise_weight(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Depthwise>(args);
  const channels = <usize>s.channels, height = <i32>s.targetHeight, width = <i32>s.targetWidth;
  const kernelHeight = <i32>s.kernelHeight, kernelWidth = <i32>s.kernelWidth, taps = <usize>(kernelHeight * kernelWidth);
  const stride = <i32>s.strideHeight, phases = <usize>s.phases, lineBytes = (phases * <usize>s.phaseLength) << 2;
  const sourceBytes = (<usize>s.sourceHeight * <usize>s.sourceWidth) << 2, dyRow = <usize>width << 2;
  const sums = <usize>s.scratch + <usize>worker * <usize>s.scratchStride, copy = sums + ((taps + 7 & ~7) << 3);
  const second: usize = phases == 1 ? 4 : <usize>s.phaseLength << 2;
  const third: usize = phases == 1 ? 8 : phases == 2 ? 4 : <usize>s.phaseLength << 3;
  memory.fill(copy, 0, copyFloats(s) << 2);
  for (let u = lo; u < hi; u++) {
    memory.fill(sums, 0, taps << 3);
    for (let image: usize = 0; image < <usize>s.batch; image++) {
      const plane = image * channels + <usize>u;
      for (let first = 0; first < height; first += <i32>s.unitRows) {
        const rows = min(<i32>s.unitRows, height - first);
        copyPlane(
          s, <usize>s.source + plane * sourceBytes, <i32>s.originHeight + first * stride, (rows - 1) * stride + kernelHeight,
          s.units > 1, copy,
        );
        const dy = <usize>s.target + (plane * <usize>height + <usize>first) * dyRow;
        for (let i = 0; i < kernelHeight; i++) {
          let a = copy + <usize>i * lineBytes, to = sums + (<usize>(i * kernelWidth) << 3);
          const step = <usize>stride * lineBytes;
          dots3(dy, dyRow, rows, width, a, a + second, a + third, step, to);
          for (let t = 3; t < kernelWidth; t += 2) dots2(dy, dyRow, rows, width, a + (<usize>t << 2), step, to + (<usize>t << 3));
        }
      }
    }
    for (let i: usize = 0; i < taps; i++) {
      store<f32>(<usize>s.weight + ((<usize>u * taps + i) << 2), <f32>load<f64>(sums + (i << 3)));
    }
  }
}
