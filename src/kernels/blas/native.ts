import type { NativeContext } from "../threads/worker.js";
import type { Kernel } from "../wasm/module.js";

/** Places of the native kernels in what `nativeKernels` returns, for launchNative. */
export const native = { matmul: 0, conv: 1, convInputGrad: 2, convWeightGrad: 3 } as const;

/** The loader of foreign functions, as far as it is used here. */
export interface Koffi {
  load(path: string): { func(name: string, result: string, args: readonly string[]): (...args: unknown[]) => unknown };
  address(view: ArrayBufferView): bigint;
}

/**
 * The kernels that call the library, made once in each thread from this function's text: it refers to nothing outside
 * itself. Operands are passed as addresses: where the memory begins plus the place in the heap, without a copy and
 * without a view for each call.
 *
 * Each unit is one product, or one image or block of positions, and the library computes it on the calling thread.
 * Measured on 2 cores with OpenBLAS 0.3.21, products of 64 to 1024 a side: 350 to 430 GFLOP/s this way against 67 to 230 with
 * OpenBLAS's own second thread, which contends for a core with our waiting worker.
 */
export function nativeKernels({ memory, argsAddress, exports, data, require }: NativeContext): Kernel[] {
  const koffi = require(data.koffi!) as Koffi;
  const library = koffi.load(data.library!);
  const gemm = (name: string, real: string) => {
    const [scale, address] = [real, "uintptr_t"];
    const matrix = [address, "int"];
    const args = ["int", "int", "int", "int", "int", "int", scale, ...matrix, ...matrix, scale, ...matrix];
    return library.func(name, "void", args) as (...args: number[]) => void;
  };
  const [single, double] = [gemm("cblas_sgemm", "float"), gemm("cblas_dgemm", "double")];
  const [columns, image, biasBlock, biasRows] = ["blas_columns", "blas_image", "blas_bias", "blas_bias_rows"].map(
    (name) => exports[name] as Kernel,
  ) as [Kernel, Kernel, Kernel, Kernel];
  const [rowMajor, plain, transposed] = [101, 111, 112] as const;
  let v = new Float64Array(0);
  let base = 0;
  /** Memory that is not shared gets a new buffer when it grows, and the old view's length becomes 0. */
  const enter = () => {
    if (v.length > 0) return;
    v = new Float64Array(memory.buffer, argsAddress, 64);
    base = Number(koffi.address(new Uint8Array(memory.buffer)));
  };

  const matmul: Kernel = (args, lo, hi, worker) => {
    enter();
    const [size, multiply] = v[2] ? [8, double] : [4, single];
    const [n, m, k, a, b, y] = [v[3]!, v[4]!, v[5]!, base + v[6]!, base + v[7]!, base + v[0]!];
    const [aBatch, bBatch, aRow, bColumn] = [v[8]!, v[9]!, v[10]!, v[11]!];
    const [rowBlock, rowBlocks, columnBlock, columnBlocks] = [v[12]!, v[13]!, v[14]!, v[15]!];
    const [transposeA, transposeB, lda, ldb] = [v[16] ? transposed : plain, v[17] ? transposed : plain, v[18]!, v[19]!];
    const beta = v[1] ? 1 : 0;
    for (let unit = lo; unit < hi; unit++) {
      const column = (unit % columnBlocks) * columnBlock;
      const part = Math.floor(unit / columnBlocks);
      const row = (part % rowBlocks) * rowBlock;
      const matrix = Math.floor(part / rowBlocks);
      const [rows, width] = [Math.min(rowBlock, m - row), Math.min(columnBlock, n - column)];
      if (beta) biasRows(args, unit, unit + 1, worker);
      const left = a + matrix * aBatch + row * aRow;
      const right = b + matrix * bBatch + column * bColumn;
      const to = y + ((matrix * m + row) * n + column) * size;
      multiply(rowMajor, transposeA, transposeB, rows, width, k, 1, left, lda, right, ldb, beta, to, n);
    }
  };

  /** Sizes that the three convolution kernels share; see class Columns in assembly/blas.ts for the argument block. */
  const convolution = (worker: number) => {
    enter();
    const [size, multiply] = v[3] ? [8, double] : [4, single];
    const channels = v[4]!;
    const taps = v[11]! * v[12]! * v[13]!;
    const [width, lineTotal] = [v[10]!, v[8]! * v[9]!];
    return {
      ...{ size, multiply, channels, taps, k: channels * taps, width, lineTotal },
      ...{ inputs: v[5]! * v[6]! * v[7]!, positions: lineTotal * width },
      ...{ block: v[23]!, blocks: v[24]!, lines: v[25]!, lineBlocks: v[26]!, outChannels: v[29]! },
      ...{ image: base + v[0]!, y: base + v[27]!, weight: base + v[30]!, bare: v[31] !== 0 },
      scratch: base + v[1]! + worker * v[2]!,
    };
  };

  const conv: Kernel = (args, lo, hi, worker) => {
    const c = convolution(worker);
    const { size, positions, outChannels, k, bare } = c;
    const beta = v[28] ? 1 : 0;
    for (let unit = lo; unit < hi; unit++) {
      const line = (unit % c.lineBlocks) * c.lines;
      const at = Math.floor(unit / c.lineBlocks);
      const n = Math.min(c.lines, c.lineTotal - line) * c.width;
      if (beta) biasBlock(args, unit, unit + 1, worker);
      if (!bare) columns(args, unit, unit + 1, worker);
      const from = bare ? c.image + (at * c.channels * c.inputs + line * c.width) * size : c.scratch;
      const to = c.y + (at * outChannels * positions + line * c.width) * size;
      const right = [from, bare ? positions : n] as const;
      c.multiply(rowMajor, plain, plain, outChannels, n, k, 1, c.weight, k, ...right, beta, to, positions);
    }
  };

  const convInputGrad: Kernel = (args, lo, hi, worker) => {
    const c = convolution(worker);
    const { size, positions, outChannels, k, bare } = c;
    for (let unit = lo; unit < hi; unit++) {
      const channel = (unit % c.blocks) * c.block;
      const at = Math.floor(unit / c.blocks);
      const m = Math.min(c.block, c.channels - channel) * c.taps;
      const left = c.weight + channel * c.taps * size;
      for (let block = 0; block < c.lineBlocks; block++) {
        const line = block * c.lines;
        const n = Math.min(c.lines, c.lineTotal - line) * c.width;
        const from = c.y + (at * outChannels * positions + line * c.width) * size;
        const to = bare ? c.image + ((at * c.channels + channel) * c.inputs + line * c.width) * size : c.scratch;
        const target = [to, bare ? positions : n] as const;
        c.multiply(rowMajor, transposed, plain, m, n, outChannels, 1, left, k, from, positions, 0, ...target);
        if (!bare) image(args, unit * c.lineBlocks + block, unit * c.lineBlocks + block + 1, worker);
      }
    }
  };

  /** Unit: some channels, summed over some of the images. */
  const convWeightGrad: Kernel = (args, lo, hi, worker) => {
    const c = convolution(worker);
    const { size, positions, outChannels, k, bare } = c;
    const [parts, batch, partBytes, sums] = [v[32]!, v[33]!, v[34]!, base + v[35]!];
    for (let unit = lo; unit < hi; unit++) {
      const channelPart = unit % c.blocks;
      const channel = channelPart * c.block;
      const part = Math.floor(unit / c.blocks);
      const m = Math.min(c.block, c.channels - channel) * c.taps;
      const to = sums + part * partBytes + channel * c.taps * size;
      const [first, end] = [Math.floor((part * batch) / parts), Math.floor(((part + 1) * batch) / parts)];
      let beta = 0;
      for (let at = first; at < end; at++) {
        for (let block = 0; block < c.lineBlocks; block++) {
          const line = block * c.lines;
          const n = Math.min(c.lines, c.lineTotal - line) * c.width;
          const place = (at * c.blocks + channelPart) * c.lineBlocks + block;
          if (!bare) columns(args, place, place + 1, worker);
          const left = c.y + (at * outChannels * positions + line * c.width) * size;
          const offset = ((at * c.channels + channel) * c.inputs + line * c.width) * size;
          const right = bare ? ([c.image + offset, positions] as const) : ([c.scratch, n] as const);
          c.multiply(rowMajor, plain, transposed, outChannels, m, n, 1, left, positions, ...right, beta, to, k);
          beta = 1;
        }
      }
    }
  };
  return [matmul, conv, convInputGrad, convWeightGrad];
}
