import { bytesPerElement } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import { kernels } from "../dispatch.js";
import type { ConvPlan, KernelSet, Triple } from "../kernel_set.js";
import { getThreads, scratchPlaces } from "../threads/pool.js";
import { launchNative } from "./launch.js";
import { floatOf } from "./matmul.js";
import { native } from "./native.js";

/** Columns of one block, in bytes: they stay in the second-level cache between their making and their use. */
const COLUMNS = 1 << 19;
/** Positions that a product should have at least: the library packs the weights anew for each. */
const POSITIONS = 192;
/**
 * Products of one image, and output channels, below which the WASM kernels are as fast or faster. One thread of a Zen 5,
 * OpenBLAS 0.3.21, 32 images of 8x8, 3x3 kernels, forward, input and weight gradient, WASM's time by BLAS's: 0.6, 2.0, 0.3 for
 * 1 channel to 16 (9216 products); 1.1, 1.8, 1.2 for 4 to 16; 1.4, 1.4, 1.2 for 16 to 32. 32 channels of 14x14 to 1: 1.2, 0.5, 1.0.
 */
const SMALL = 1 << 14;
const FEW_CHANNELS = 2;
/** Partial weight gradients, in bytes, unless one alone is larger. */
const PARTIAL_SUMS = 1 << 23;

const unsuited = new UnsupportedKernel("BLAS takes convolutions of one group with enough products for each image");
const volume = (t: Triple): number => t[0] * t[1] * t[2];
const are = (t: Triple, value: number): boolean => t.every((v) => v === value);
const isBare = (p: ConvPlan): boolean => are(p.kernel, 1) && are(p.stride, 1) && are(p.padding, 0);
const workOf = (p: ConvPlan): number => p.batch * volume(p.output) * p.outChannels * p.inChannels * volume(p.kernel);
/** Units that let a thread which comes late still find some. */
const unitsWanted = (): number => (getThreads() === 1 ? 1 : 2 * getThreads());

/** How one of the three convolutions is cut: channels of x that a unit takes, and lines (rows of y) of a block. */
interface Cut {
  readonly channelBlock: number;
  readonly channelBlocks: number;
  readonly lines: number;
  readonly lineBlocks: number;
}

export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, plan) {
    const dtype = suited(plan, x, weight, bias, y);
    const cut = cutOf(plan, dtype, 1, Math.ceil(unitsWanted() / plan.batch));
    run(native.conv, plan.batch * cut.lineBlocks, plan, cut, x, y, [bias?.ptr ?? 0, plan.outChannels, weight.ptr]);
  },

  convInputGrad(dy, weight, dx, plan) {
    const dtype = suited(plan, dy, weight, dx);
    const cut = cutOf(plan, dtype, Math.ceil(unitsWanted() / plan.batch), 1);
    run(native.convInputGrad, plan.batch * cut.channelBlocks, plan, cut, dx, dy, [0, plan.outChannels, weight.ptr]);
  },

  convWeightGrad(x, dy, dWeight, plan) {
    const dtype = suited(plan, x, dy, dWeight);
    const bytes = dWeight.length * bytesPerElement[dtype];
    const wanted = unitsWanted();
    const parts = Math.max(1, Math.min(plan.batch, wanted, Math.floor(PARTIAL_SUMS / bytes)));
    const cut = cutOf(plan, dtype, Math.ceil(wanted / parts), 1);
    const block = parts > 1 ? heap.allocate(parts * bytes) : -1;
    try {
      const sums: Slot = parts > 1 ? { ...dWeight, ptr: heap.address(block), length: parts * dWeight.length } : dWeight;
      const more = [0, plan.outChannels, 0, parts, plan.batch, bytes, sums.ptr];
      run(native.convWeightGrad, parts * cut.channelBlocks, plan, cut, x, dy, more);
      if (parts > 1) kernels.reduce("sum", sums, dWeight, { outer: 1, reduce: parts, inner: dWeight.length });
    } finally {
      if (parts > 1) heap.free(block);
    }
  },
};

function suited(p: ConvPlan, ...slots: readonly (Slot | null)[]): "float32" | "float64" {
  const dtype = floatOf(...slots);
  const small = volume(p.output) * p.outChannels * p.inChannels * volume(p.kernel) < SMALL;
  if (dtype === "float32" && (small || p.outChannels < FEW_CHANNELS)) throw unsuited;
  if (p.groups !== 1 || slots.some((slot) => slot?.length === 0)) throw unsuited;
  return dtype;
}

function cutOf(p: ConvPlan, dtype: "float32" | "float64", channelParts: number, lineParts: number): Cut {
  const channelBlock = Math.ceil(p.inChannels / Math.min(p.inChannels, channelParts));
  const total = p.output[0] * p.output[1];
  const width = p.output[2];
  const lineBytes = channelBlock * volume(p.kernel) * width * bytesPerElement[dtype];
  const most = isBare(p) ? total : Math.max(Math.ceil(POSITIONS / width), Math.floor(COLUMNS / lineBytes));
  const least = Math.min(total, Math.ceil(POSITIONS / width));
  const lineBlocks = Math.ceil(total / Math.max(least, Math.min(most, Math.ceil(total / lineParts))));
  const lines = Math.ceil(total / lineBlocks);
  return {
    ...{ channelBlock, channelBlocks: Math.ceil(p.inChannels / channelBlock) },
    ...{ lines, lineBlocks: Math.ceil(total / lines) },
  };
}

/** `image` is x or dx, `y` is y or dy; `more` follows them in the argument block (see class Columns and native.ts). */
function run(
  kernel: number,
  units: number,
  p: ConvPlan,
  cut: Cut,
  image: Slot,
  y: Slot,
  [bias, outChannels, weight, ...more]: readonly number[],
): void {
  const bare = isBare(p);
  const size = bytesPerElement[image.dtype];
  const threadBytes = Math.ceil((cut.channelBlock * volume(p.kernel) * cut.lines * p.output[2] * size) / 64) * 64;
  const block = bare ? -1 : heap.allocate(scratchPlaces() * threadBytes);
  try {
    launchNative(kernel, units, workOf(p), [
      ...[image.ptr, bare ? 0 : heap.address(block), threadBytes, Number(image.dtype === "float64"), p.inChannels],
      ...[...p.input, ...p.output, ...p.kernel, ...p.stride, ...p.padding, ...p.dilation],
      ...[cut.channelBlock, cut.channelBlocks, cut.lines, cut.lineBlocks, y.ptr, bias!, outChannels!, weight!],
      ...[Number(bare), ...more],
    ]);
  } finally {
    if (!bare) heap.free(block);
  }
}
