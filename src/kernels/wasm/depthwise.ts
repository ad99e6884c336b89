import { heap, type Slot } from "../../memory/heap.js";
import type { ConvPlan } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";

/** Floats of the padded copy of a unit's rows: 16 KiB stay in the first-level cache. */
const COPY = 1 << 12;

/** Nanoseconds of a product. */
const WORK = 0.12;

const aligned = (floats: number): number => Math.ceil(floats / 16) * 64;

/**
 * One kernel a channel, 3, 5 or 7 wide, without dilation: rows of these have a loop of their own, in 0.2 to 0.6 of the
 * time that conv_tiles takes. Strides along the width only with 3.
 */
export function isDepthwise(p: ConvPlan): boolean {
  const flat = p.kernel[0] === 1 && p.padding[0] === 0 && p.input[0] === 1 && p.stride[0] === 1;
  const whole = p.groups === p.inChannels && p.groups === p.outChannels && p.dilation[1] === 1 && p.dilation[2] === 1;
  const width = p.kernel[2];
  const stride = p.stride[2];
  return flat && whole && (width === 3 || (stride === 1 && (width === 5 || width === 7)));
}

interface Rows {
  readonly source: readonly [height: number, width: number];
  readonly target: readonly [height: number, width: number];
  readonly stride: readonly [height: number, width: number];
  readonly origin: readonly [height: number, width: number];
  readonly spread: readonly [height: number, width: number];
  readonly flip: boolean;
}

const forward = (p: ConvPlan): Rows => ({
  source: [p.input[1], p.input[2]],
  target: [p.output[1], p.output[2]],
  stride: [p.stride[1], p.stride[2]],
  origin: [-p.padding[1], -p.padding[2]],
  spread: [1, 1],
  flip: false,
});

const inputGrad = (p: ConvPlan): Rows => ({
  source: [p.output[1], p.output[2]],
  target: [p.input[1], p.input[2]],
  stride: [1, 1],
  origin: [p.padding[1] - p.kernel[1] + 1, p.padding[2] - p.kernel[2] + 1],
  spread: [p.stride[1], p.stride[2]],
  flip: true,
});

export const depthwise = (x: Slot, weight: Slot, bias: Slot | null, y: Slot, p: ConvPlan): void =>
  run("conv_depthwise", x, weight, bias, y, p, forward(p));

export const depthwiseInputGrad = (dy: Slot, weight: Slot, dx: Slot, p: ConvPlan): void =>
  run("conv_depthwise", dy, weight, null, dx, p, inputGrad(p));

export const depthwiseWeightGrad = (x: Slot, dy: Slot, dWeight: Slot, p: ConvPlan): void =>
  run("conv_depthwise_weight", x, dWeight, null, dy, p, forward(p));

function run(kernel: string, source: Slot, weight: Slot, bias: Slot | null, target: Slot, p: ConvPlan, r: Rows): void {
  const [kernelHeight, kernelWidth] = [p.kernel[1], p.kernel[2]];
  const [height, width] = r.target;
  const phases = Math.min(r.stride[1], kernelWidth);
  const phaseLength = Math.ceil(width / 4) * 4 + Math.ceil((kernelWidth - 1) / r.stride[1]);
  const line = phases * phaseLength;
  const fitting = Math.floor((COPY / line - kernelHeight) / r.stride[0]) + 1;
  const units = Math.ceil(height / Math.max(1, Math.min(height, fitting)));
  const unitRows = Math.ceil(height / units);
  const taps = kernelHeight * kernelWidth;
  const threadBytes = aligned(2 * taps + 16 + width + 16 + ((unitRows - 1) * r.stride[0] + kernelHeight) * line + 32);
  const scratch = heap.allocate(scratchPlaces() * threadBytes);
  try {
    const jobs = kernel === "conv_depthwise" ? p.batch * p.inChannels * units : p.inChannels;
    launch(kernel, jobs, p.batch * p.inChannels * height * width * taps * WORK, [
      ...[
        source.ptr,
        weight.ptr,
        target.ptr,
        bias?.ptr ?? 0,
        heap.address(scratch),
        threadBytes,
        p.batch,
        p.inChannels,
      ],
      ...[...r.source, ...r.target, kernelHeight, kernelWidth, ...r.stride, ...r.origin, ...r.spread],
      ...[unitRows, units, phases, phaseLength, Number(r.flip)],
    ]);
  } finally {
    heap.free(scratch);
  }
}
