import { heap, type Slot } from "../../memory/heap.js";
import type { ConvPlan, KernelSet } from "../kernel_set.js";
import { kernelArgs, listArgs, run, scratchPlaces } from "../threads/pool.js";
import { forwardPass, inputGradPasses, type Pass, weightGradPass } from "./conv_passes.js";
import { depthwise, depthwiseInputGrad, depthwiseWeightGrad, isDepthwise } from "./depthwise.js";
import { elementwise } from "./elementwise.js";
import { float32Only } from "./float32_only.js";
import { kernelIndex } from "./module.js";
import { pointwise, pointwiseForward, pointwiseInputGrad, pointwiseWeightGrad, pointwiseWeights } from "./pointwise.js";
import { winograd, winogradForward, winogradInputGrad, winogradWeightGrad, winogradWeights } from "./winograd.js";

const PACK = kernelIndex("conv_pack");
const TILES = kernelIndex("conv_tiles");
const WEIGHT_GRAD = kernelIndex("conv_weight_grad");
const WEIGHT_MERGE = kernelIndex("conv_weight_merge");

/** Nanoseconds of a product, of a float of partial weight gradients merged, of a weight packed. */
const TILE_WORK = 0.05;
const MERGE_WORK = 0.5;
const PACK_WORK = 1;

export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, plan) {
    float32Only("convolution", x, weight, bias, y);
    if (y.length === 0) return;
    const filter = winogradForward(plan);
    const point = pointwise(plan);
    if (isDepthwise(plan)) depthwise(x, weight, bias, y, plan);
    else if (filter) winograd(x, weight, bias, y, filter);
    else if (point) pointwiseForward(x, weight, bias, y, point);
    else correlate(x, weight, bias, y, forwardPass(plan));
  },

  convInputGrad(dy, weight, dx, plan) {
    float32Only("convolution", dy, weight, dx);
    if (dx.length === 0) return;
    if (dy.length === 0) {
      elementwise.fill(dx, 0);
      return;
    }
    const filter = winogradInputGrad(plan);
    const point = pointwise(plan);
    if (isDepthwise(plan)) depthwiseInputGrad(dy, weight, dx, plan);
    else if (filter) winograd(dy, weight, null, dx, filter);
    else if (point) pointwiseInputGrad(dy, weight, dx, point);
    else {
      const { passes, gaps } = inputGradPasses(plan);
      if (gaps) elementwise.fill(dx, 0);
      for (let i = 0; i < passes.length; i++) correlate(dy, weight, null, dx, passes[i]!);
    }
  },

  convWeightGrad(x, dy, dWeight, plan) {
    float32Only("convolution", x, dy, dWeight);
    if (dWeight.length === 0) return;
    if (x.length === 0 || dy.length === 0) {
      elementwise.fill(dWeight, 0);
      return;
    }
    const filter = winogradWeightGrad(plan);
    const point = pointwiseWeights(plan);
    // Its rows are at least a quad long, and each channel is one thread's.
    if (isDepthwise(plan) && plan.output[2] >= 4 && plan.groups >= 4) depthwiseWeightGrad(x, dy, dWeight, plan);
    else if (filter) winogradWeights(x, dy, dWeight, filter);
    else if (point) pointwiseWeightGrad(x, dy, dWeight, point);
    else weightGrad(x, dy, dWeight, plan);
  },
};

function weightGrad(x: Slot, dy: Slot, dWeight: Slot, plan: ConvPlan): void {
  const pass = weightGradPass(plan);
  const { groups, rows, imageParts } = pass;
  const block = heap.allocate(scratchBytes(pass));
  try {
    const sums = heap.address(block);
    pack(pass, dWeight, sums);
    passArgs(pass, x.ptr, dy.ptr, sums, 0, sums);
    run(WEIGHT_GRAD, pass.units, pass.work * TILE_WORK);
    const a = kernelArgs();
    a[0] = sums;
    a[1] = dWeight.ptr;
    a[2] = groups;
    a[3] = rows;
    a[4] = pass.k;
    a[5] = imageParts;
    a[6] = pass.partBytes;
    const panels = groups * (rows === 1 ? 1 : Math.ceil(rows / 4));
    run(WEIGHT_MERGE, panels, imageParts * dWeight.length * MERGE_WORK);
  } finally {
    heap.free(block);
  }
}

/**
 * target = weights * source over one grid, without columns: tiles read a padded copy of the part of the image that a
 * block of positions needs. Measured against im2col and matmul, one thread, 3x3 kernels: 0.51 to 0.61 ms on
 * [32, 16, 8, 8] to 32 channels, 43 to 56 us on [32, 1, 8, 8] to 16; equal within 5 % on [8, 32, 28, 28] to 64.
 */
function correlate(source: Slot, weight: Slot, bias: Slot | null, target: Slot, pass: Pass): void {
  const block = heap.allocate(scratchBytes(pass));
  try {
    const packed = heap.address(block);
    pack(pass, weight, packed);
    passArgs(pass, source.ptr, packed, target.ptr, bias ? bias.ptr : 0, packed);
    run(TILES, pass.units, pass.work * TILE_WORK);
  } finally {
    heap.free(block);
  }
}

/** Scratch memory of a pass: what is packed or summed, offsets, taps, and a part for each thread, in this order. */
const scratchBytes = (pass: Pass): number =>
  pass.headBytes + pass.offsetBytes + pass.tapBytes + scratchPlaces() * pass.threadBytes;

/** Packs weights into scratch memory at `head` and expands the offsets of taps behind them. */
function pack(pass: Pass, weight: Slot, head: number): void {
  const offsets = head + pass.headBytes;
  const taps = offsets + pass.offsetBytes;
  const { words } = heap;
  for (let i = 0; i < pass.taps.length; i++) words[taps / 4 + i] = pass.taps[i]!;
  const a = kernelArgs();
  a[0] = weight.ptr;
  a[1] = head;
  a[2] = offsets;
  a[3] = taps;
  listArgs(4, pass.packing);
  run(PACK, pass.panels + 1, pass.panels * 4 * pass.k * PACK_WORK);
}

/** The arguments of class Conv in assembly/lib_conv.ts, with scratch memory at `head`. */
function passArgs(pass: Pass, first: number, second: number, third: number, bias: number, head: number): void {
  const offsets = head + pass.headBytes;
  const taps = offsets + pass.offsetBytes;
  const a = kernelArgs();
  a[0] = first;
  a[1] = second;
  a[2] = third;
  a[3] = bias;
  a[4] = taps;
  a[5] = offsets;
  a[6] = taps + pass.tapBytes;
  a[7] = pass.threadBytes;
  listArgs(8, pass.shared);
}
