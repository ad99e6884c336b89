import type { Slot } from "../../memory/heap.js";
import type { ConvPlan } from "../kernel_set.js";
import { byAxis, convNumbers, convParameters, kernelConstants, UNFLATTEN, volume } from "./conv_shape.js";
import { run } from "./device.js";
import { groupsFor } from "./elementwise.js";
import { addParts } from "./product.js";
import type { Program } from "./program.js";

const read = { access: "read" } as const;
const write = { access: "write" } as const;

/** Groups of so few channels (depthwise convolution has one) leave most of a tile empty: one lane computes one result. */
export const isDirect = (p: ConvPlan): boolean => p.inChannels <= 4 * p.groups && p.outChannels <= 4 * p.groups;

const forward: Program = {
  name: "conv_direct",
  operands: { x: read, weight: read, bias: read, y: write },
  parameters: { size: "u32", ...convParameters },
  lanes: 256,
  code: `
${UNFLATTEN}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.size) { return; }
  let s = spot_of(i, P.outD, P.outH, P.outW);
  let channel = s.rest % P.outChannels;
  let image = s.rest / P.outChannels;
  var plane = (image * P.inChannels + channel / P.outputs * P.inputs) * P.inVolume;
  var tap = channel * P.inputs * (K_D * K_H * K_W);
  var sum = bias_at(channel);
  for (var c = 0u; c < P.inputs; c++) {
    for (var k = 0u; k < K_D; k++) {
      let d = s.d * P.strideD + k * P.dilationD - P.padD;
      for (var j = 0u; j < K_H; j++) {
        let h = s.h * P.strideH + j * P.dilationH - P.padH;
        for (var l = 0u; l < K_W; l++) {
          // Beyond the first position is, in u32, far beyond the last one.
          let w = s.w * P.strideW + l * P.dilationW - P.padW;
          if (d < P.inD && h < P.inH && w < P.inW) {
            sum += x_at(plane + (d * P.inH + h) * P.inW + w) * weight_at(tap);
          }
          tap++;
        }
      }
    }
    plane += P.inVolume;
  }
  y_set(i, sum);
}`,
};

const inputGrad: Program = {
  name: "conv_input_grad_direct",
  operands: { dy: read, weight: read, y: write },
  parameters: { size: "u32", ...convParameters },
  lanes: 256,
  code: `
${UNFLATTEN}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.size) { return; }
  let s = spot_of(i, P.inD, P.inH, P.inW);
  let channel = s.rest % P.inChannels;
  let image = s.rest / P.inChannels;
  let first = channel / P.inputs * P.outputs;
  var plane = (image * P.outChannels + first) * P.outVolume;
  var tap = (first * P.inputs + channel % P.inputs) * (K_D * K_H * K_W);
  var sum = 0.0;
  for (var o = 0u; o < P.outputs; o++) {
    for (var k = 0u; k < K_D; k++) {
      let d = s.d + P.padD - k * P.dilationD;
      for (var j = 0u; j < K_H; j++) {
        let h = s.h + P.padH - j * P.dilationH;
        for (var l = 0u; l < K_W; l++) {
          // A negative difference is a huge u32, which a stride might divide into the range.
          let w = s.w + P.padW - l * P.dilationW;
          let meets = d % S_D == 0u && h % S_H == 0u && w % S_W == 0u && max(d, max(h, w)) < 0x80000000u;
          if (meets && d / S_D < P.outD && h / S_H < P.outH && w / S_W < P.outW) {
            let at = (d / S_D * P.outH + h / S_H) * P.outW + w / S_W;
            sum += dy_at(plane + at) * weight_at(tap + (k * K_H + j) * K_W + l);
          }
        }
      }
    }
    plane += P.outVolume;
    tap += P.inputs * (K_D * K_H * K_W);
  }
  y_set(i, sum);
}`,
};

/** Taps that a lane adds up beside one another: each dy it reads meets all of them. */
const TAPS = 9;
const WEIGHT_LANES = 128;

const weightGrad: Program = {
  name: "conv_weight_grad_direct",
  operands: { x: read, dy: read, y: write },
  parameters: { size: "u32", chunks: "u32", chunk: "u32", length: "u32", ...convParameters },
  lanes: WEIGHT_LANES,
  code: `
${UNFLATTEN}
const KERNEL = K_D * K_H * K_W;
const BLOCKS = (KERNEL + ${TAPS - 1}u) / ${TAPS}u;
var<workgroup> sums: array<f32, LANES * ${TAPS}u>;

fn tap_at(plane: u32, s: Spot, tap: u32) -> f32 {
  let k = tap_of(tap);
  let d = s.d * P.strideD + k.d * P.dilationD - P.padD;
  let h = s.h * P.strideH + k.h * P.dilationH - P.padH;
  let w = s.w * P.strideW + k.w * P.dilationW - P.padW;
  let ok = (tap < KERNEL) & (d < P.inD) & (h < P.inH) & (w < P.inW);
  return select(0.0, x_at(select(0u, plane + (d * P.inH + h) * P.inW + w, ok)), ok);
}

fn run(group: u32, lane: u32) {
  let chunk = group % P.chunks;
  let block = group / P.chunks % BLOCKS;
  let pair = group / P.chunks / BLOCKS;
  let output = pair / P.inputs;
  let input = output / P.outputs * P.inputs + pair % P.inputs;
  let stop = min(P.size, (chunk + 1u) * P.chunk);
  var results: array<f32, ${TAPS}>;
  for (var p = chunk * P.chunk + lane; p < stop; p += LANES) {
    let s = spot_of(p, P.outD, P.outH, P.outW);
    let v = dy_at((s.rest * (P.outChannels - 1u) + output) * P.outVolume + p);
    let plane = (s.rest * P.inChannels + input) * P.inVolume;
    for (var t = 0u; t < ${TAPS}u; t++) { results[t] += v * tap_at(plane, s, block * ${TAPS}u + t); }
  }
  for (var t = 0u; t < ${TAPS}u; t++) { sums[t * LANES + lane] = results[t]; }
  for (var part = LANES / 2u; part > 0u; part /= 2u) {
    workgroupBarrier();
    if (lane < part) {
      for (var t = lane; t < ${TAPS}u * LANES; t += LANES) { sums[t] += sums[t + part]; }
    }
  }
  workgroupBarrier();
  if (lane < min(${TAPS}u, KERNEL - block * ${TAPS}u)) {
    y_set(chunk * P.length + pair * KERNEL + block * ${TAPS}u + lane, sums[lane * LANES]);
  }
}`,
};

export function directConv(x: Slot, weight: Slot, bias: Slot | null, y: Slot, p: ConvPlan): void {
  const parameters = { size: y.length, ...convNumbers(p) };
  run(forward, {
    ...{ operands: { x, weight, bias, y }, parameters, groups: groupsFor(y.length) },
    constants: kernelConstants(p),
  });
}

export function directInputGrad(dy: Slot, weight: Slot, dx: Slot, p: ConvPlan): void {
  const parameters = { size: dx.length, ...convNumbers(p) };
  const constants = { ...kernelConstants(p), ...byAxis("S_", p.stride) };
  run(inputGrad, { operands: { dy, weight, y: dx }, parameters, groups: groupsFor(dx.length), constants });
}

/** Positions that a lane adds up at least and at most, before lanes and then chunks are added. */
const LEAST = 4;
const MOST = 64;
/** Groups that a large device keeps busy. */
const FULL = 1024;

export function directWeightGrad(x: Slot, dy: Slot, dWeight: Slot, p: ConvPlan): void {
  const size = p.batch * volume(p.output);
  const groups = Math.ceil(volume(p.kernel) / TAPS) * (p.inChannels / p.groups) * p.outChannels;
  const turns = Math.min(MOST, Math.max(LEAST, Math.ceil((size * groups) / (FULL * WEIGHT_LANES))));
  const chunk = turns * WEIGHT_LANES;
  const chunks = Math.max(1, Math.ceil(size / chunk));
  const parameters = { size, chunks, chunk, length: dWeight.length, ...convNumbers(p) };
  const compute = (y: Slot): void =>
    run(weightGrad, { operands: { x, dy, y }, parameters, groups: groups * chunks, constants: kernelConstants(p) });
  if (chunks === 1) compute(dWeight);
  else addParts(dWeight, chunks, null, compute);
}
