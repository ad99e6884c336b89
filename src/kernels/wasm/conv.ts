import { UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import type { ConvPlan, KernelSet } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";
import { forwardPass, inputGradPasses, type Pass, weightGradPass } from "./conv_passes.js";
import { depthwise, depthwiseInputGrad, depthwiseWeightGrad, isDepthwise } from "./depthwise.js";
import { elementwise } from "./elementwise.js";
import { pointwise, pointwiseForward, pointwiseInputGrad, pointwiseWeightGrad, pointwiseWeights } from "./pointwise.js";
import { winograd, winogradForward, winogradInputGrad, winogradWeightGrad, winogradWeights } from "./winograd.js";

function onlyFloat32(...slots: (Slot | null)[]): void {
  if (slots.some((slot) => slot && slot.dtype !== "float32")) {
    throw new UnsupportedKernel("convolution has WASM kernels for float32 only");
  }
}

/** Nanoseconds of a product, of a float of partial weight gradients merged, of a weight packed. */
const TILE_WORK = 0.05;
const MERGE_WORK = 0.5;
const PACK_WORK = 1;

export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, plan) {
    onlyFloat32(x, weight, bias, y);
    if (y.length === 0) return;
    const filter = winogradForward(plan);
    const point = pointwise(plan);
    if (isDepthwise(plan)) depthwise(x, weight, bias, y, plan);
    else if (filter) winograd(x, weight, bias, y, filter);
    else if (point) pointwiseForward(x, weight, bias, y, point);
    else correlate(x, weight, bias, y, forwardPass(plan));
  },

  convInputGrad(dy, weight, dx, plan) {
    onlyFloat32(dy, weight, dx);
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
      for (const pass of passes) correlate(dy, weight, null, dx, pass);
    }
  },

  convWeightGrad(x, dy, dWeight, plan) {
    onlyFloat32(x, dy, dWeight);
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
  const { groups, rows, k, imageParts, partBytes } = pass;
  withScratch(pass, dWeight, (sums, offsets, taps, scratch) => {
    launch("conv_weight_grad", pass.units, pass.work * TILE_WORK, [
      ...[x.ptr, dy.ptr, sums, 0, taps, offsets, scratch, pass.threadBytes],
      ...pass.shared,
    ]);
    const panels = groups * (rows === 1 ? 1 : Math.ceil(rows / 4));
    const merging = [sums, dWeight.ptr, groups, rows, k, imageParts, partBytes];
    launch("conv_weight_merge", panels, imageParts * dWeight.length * MERGE_WORK, merging);
  });
}

/**
 * target = weights * source over one grid, without columns: tiles read a padded copy of the part of the image that a
 * block of positions needs. Measured against im2col and matmul, one thread, 3x3 kernels: 0.51 to 0.61 ms on
 * [32, 16, 8, 8] to 32 channels, 43 to 56 us on [32, 1, 8, 8] to 16; equal within 5 % on [8, 32, 28, 28] to 64.
 */
function correlate(source: Slot, weight: Slot, bias: Slot | null, target: Slot, pass: Pass): void {
  withScratch(pass, weight, (packed, offsets, taps, scratch) => {
    launch("conv_tiles", pass.units, pass.work * TILE_WORK, [
      ...[source.ptr, packed, target.ptr, bias?.ptr ?? 0, taps, offsets, scratch, pass.threadBytes],
      ...pass.shared,
    ]);
  });
}

/** Allocates the pass's scratch memory, packs weights and expands the offsets of taps into it, and runs. */
function withScratch(
  pass: Pass,
  weight: Slot,
  run: (head: number, offsets: number, taps: number, scratch: number) => void,
): void {
  const block = heap.allocate(pass.headBytes + pass.offsetBytes + pass.tapBytes + scratchPlaces() * pass.threadBytes);
  try {
    const head = heap.address(block);
    const offsets = head + pass.headBytes;
    const taps = offsets + pass.offsetBytes;
    heap.words.set(pass.taps, taps / 4);
    const work = pass.panels * 4 * pass.k * PACK_WORK;
    launch("conv_pack", pass.panels + 1, work, [weight.ptr, head, offsets, taps, ...pass.packing]);
    run(head, offsets, taps, taps + pass.tapBytes);
  } finally {
    heap.free(block);
  }
}
