import { convParameters, UNFLATTEN } from "./conv_shape.js";
import { type Product, picks } from "./tile.js";

const read = { access: "read" } as const;

/**
 * Four columns of a matrix that is not there but gathered from an image `source`: `place` is the start of a column's first
 * plane, d, h and w a position in it. A depth adds another plane and another position; what lies outside the plane is 0.
 */
const gathered = (source: string, size: "in" | "out"): string => `
${UNFLATTEN}
${picks(source)}
struct Columns { place: vec4u, d: vec4i, h: vec4i, w: vec4i, ok: vec4<bool> }
fn gather(s: Columns, place: u32, d: i32, h: i32, w: i32, live: bool) -> vec4f {
  let y = bitcast<vec4u>(s.h + h);
  let x = bitcast<vec4u>(s.w + w);
  var ok = s.ok & vec4<bool>(live) & (y < vec4u(P.${size}H)) & (x < vec4u(P.${size}W));
  var i = s.place + place + y * P.${size}W + x;
  if (!FLAT) {
    let z = bitcast<vec4u>(s.d + d);
    ok = ok & (z < vec4u(P.${size}D));
    i += z * (P.${size}H * P.${size}W);
  }
  return ${source}_pick(i, ok);
}
struct Spots { d: vec4u, h: vec4u, w: vec4u, rest: vec4u }
fn spots_of(p: vec4u, d: u32, h: u32, w: u32) -> Spots {
  let row = p / w;
  let plane = row / h;
  let rest = plane / d;
  return Spots(plane - rest * d, row - plane * h, p - row * w, rest);
}
fn four(i: u32) -> vec4u { return vec4u(i, i + 1u, i + 2u, i + 3u); }
fn ahead(at: vec4u, step: u32, less: u32) -> vec4i { return vec4i(at * step) - i32(less); }`;

const noRowExtra = "fn row_extra(batch: u32, i: u32) -> f32 { return 0.0; }";
const noColumnExtra = "fn column_extra(batch: u32, j: u32) -> vec4f { return vec4f(0.0); }";
const fullDepth = "fn depth_of(batch: u32) -> u32 { return P.depth; }";

/** Rows: channels of y; columns: positions of all images; depth: channels of x and taps. A batch is a group of channels. */
export const forward: Product = {
  name: "conv",
  operands: { x: read, weight: read, bias: read },
  parameters: convParameters,
  code: `
${gathered("x", "in")}
${picks("weight")}
struct Left { place: vec4u, ok: vec4<bool> }
fn left(batch: u32, i: u32) -> Left { return Left((batch * P.m + four(i)) * P.depth, four(i) < vec4u(P.m)); }
fn left_four(s: Left, p: u32, live: bool) -> vec4f { return weight_pick(s.place + p, s.ok & vec4<bool>(live)); }
alias Right = Columns;
fn right(batch: u32, j: u32) -> Right {
  let s = spots_of(four(j), P.outD, P.outH, P.outW);
  let place = (s.rest * P.inChannels + batch * P.inputs) * P.inVolume;
  let d = ahead(s.d, P.strideD, P.padD);
  return Right(place, d, ahead(s.h, P.strideH, P.padH), ahead(s.w, P.strideW, P.padW), four(j) < vec4u(P.n));
}
fn right_four(s: Right, p: u32, live: bool) -> vec4f {
  let k = tap_of(p);
  let d = i32(k.d * P.dilationD);
  return gather(s, k.rest * P.inVolume, d, i32(k.h * P.dilationH), i32(k.w * P.dilationW), live);
}
${fullDepth}
fn row_place(batch: u32, i: u32) -> u32 { return (batch * P.m + i) * P.outVolume; }
fn column_places(batch: u32, j: u32) -> vec4u {
  let image = four(j) / P.outVolume;
  return select(vec4u(NOWHERE), image * (P.outChannels - 1u) * P.outVolume + four(j), four(j) < vec4u(P.n));
}
fn row_extra(batch: u32, i: u32) -> f32 { return bias_at(batch * P.m + i); }
${noColumnExtra}`,
};

/** Rows: channels of y; columns: channels of x and taps; depth: positions of all images. A batch is a group of channels. */
export const weightGrad: Product = {
  name: "conv_weight_grad",
  operands: { x: read, dy: read },
  parameters: convParameters,
  code: `
${gathered("x", "in")}
${picks("dy")}
struct Left { place: vec4u, ok: vec4<bool> }
fn left(batch: u32, i: u32) -> Left { return Left((batch * P.m + four(i)) * P.outVolume, four(i) < vec4u(P.m)); }
fn left_four(s: Left, p: u32, live: bool) -> vec4f {
  let image = p / P.outVolume;
  return dy_pick(s.place + image * (P.outChannels - 1u) * P.outVolume + p, s.ok & vec4<bool>(live));
}
alias Right = Columns;
fn right(batch: u32, j: u32) -> Right {
  let s = spots_of(four(j), K_D, K_H, K_W);
  let place = (batch * P.inputs + s.rest) * P.inVolume;
  let d = ahead(s.d, P.dilationD, P.padD);
  return Right(place, d, ahead(s.h, P.dilationH, P.padH), ahead(s.w, P.dilationW, P.padW), four(j) < vec4u(P.n));
}
fn right_four(s: Right, p: u32, live: bool) -> vec4f {
  let k = spot_of(p, P.outD, P.outH, P.outW);
  let place = k.rest * P.inChannels * P.inVolume;
  return gather(s, place, i32(k.d * P.strideD), i32(k.h * P.strideH), i32(k.w * P.strideW), live);
}
${fullDepth}
fn row_place(batch: u32, i: u32) -> u32 { return (batch * P.m + i) * P.n; }
fn column_places(batch: u32, j: u32) -> vec4u { return select(vec4u(NOWHERE), four(j), four(j) < vec4u(P.n)); }
${noRowExtra}
${noColumnExtra}`,
};

/**
 * With strides, positions of x fall into phases by their remainder; a phase meets every REPEAT-th tap from its first one on,
 * T of them or one less (or none), and then is a convolution without stride. Rows: channels of x; columns: positions of a
 * phase, of all images; depth: channels of y and taps. A batch is a phase and a group of channels.
 */
export const inputGrad: Product = {
  name: "conv_input_grad",
  operands: { dy: read, weight: read },
  parameters: {
    ...convParameters,
    ...{ phasesD: "u32", phasesH: "u32", phasesW: "u32", spotsD: "u32", spotsH: "u32", spotsW: "u32" },
  },
  code: `
${gathered("dy", "out")}
${picks("weight")}
// first: the first tap; offset: where dy meets it, at the phase's first position; taps: how many there are.
struct Axis { first: u32, offset: i32, taps: u32, short: bool }
fn axis(phase: u32, stride: u32, pad: u32, dilation: u32, repeat: u32, most: u32, kernel: u32) -> Axis {
  let remainder = (phase + pad) % stride;
  var first = 0u;
  while (first < repeat && first * dilation % stride != remainder) { first++; }
  let offset = (i32(phase + pad) - i32(first * dilation)) / i32(stride);
  let taps = select((kernel - first + repeat - 1u) / repeat, 0u, first >= min(repeat, kernel));
  return Axis(first, offset, taps, taps < most);
}
struct Phase { channels: u32, d: u32, h: u32, w: u32 }
fn phase_of(batch: u32) -> Phase {
  let s = spot_of(batch, P.phasesD, P.phasesH, P.phasesW);
  return Phase(s.rest, s.d, s.h, s.w);
}
fn axis_d(phase: u32) -> Axis { return axis(phase, P.strideD, P.padD, P.dilationD, REPEAT_D, T_D, K_D); }
fn axis_h(phase: u32) -> Axis { return axis(phase, P.strideH, P.padH, P.dilationH, REPEAT_H, T_H, K_H); }
fn axis_w(phase: u32) -> Axis { return axis(phase, P.strideW, P.padW, P.dilationW, REPEAT_W, T_W, K_W); }
struct Short { d: bool, h: bool, w: bool }
// The taps of a phase, numbered: each length is one of two constants.
fn taps_of(p: u32, short: Short) -> Spot {
  let row = select(p / T_W, p / LESS_W, short.w);
  let plane = select(row / T_H, row / LESS_H, short.h);
  let rest = select(plane / T_D, plane / LESS_D, short.d);
  let d = plane - rest * select(T_D, LESS_D, short.d);
  return Spot(d, row - plane * select(T_H, LESS_H, short.h), p - row * select(T_W, LESS_W, short.w), rest);
}

struct Left { place: vec4u, ok: vec4<bool>, tap: u32, short: Short }
fn left(batch: u32, i: u32) -> Left {
  let phase = phase_of(batch);
  let d = axis_d(phase.d);
  let h = axis_h(phase.h);
  let w = axis_w(phase.w);
  let place = (phase.channels * P.outputs * P.m + four(i)) * (K_D * K_H * K_W);
  return Left(place, four(i) < vec4u(P.m), (d.first * K_H + h.first) * K_W + w.first, Short(d.short, h.short, w.short));
}
fn left_four(s: Left, p: u32, live: bool) -> vec4f {
  let k = taps_of(p, s.short);
  let tap = s.tap + (k.d * REPEAT_D * K_H + k.h * REPEAT_H) * K_W + k.w * REPEAT_W;
  return weight_pick(s.place + k.rest * P.m * (K_D * K_H * K_W) + tap, s.ok & vec4<bool>(live));
}
struct Right { columns: Columns, short: Short }
fn right(batch: u32, j: u32) -> Right {
  let phase = phase_of(batch);
  let s = spots_of(four(j), P.spotsD, P.spotsH, P.spotsW);
  let place = (s.rest * P.outChannels + phase.channels * P.outputs) * P.outVolume;
  let d = axis_d(phase.d);
  let h = axis_h(phase.h);
  let w = axis_w(phase.w);
  let ok = four(j) < vec4u(P.n);
  let columns = Columns(place, vec4i(s.d) + d.offset, vec4i(s.h) + h.offset, vec4i(s.w) + w.offset, ok);
  return Right(columns, Short(d.short, h.short, w.short));
}
fn right_four(s: Right, p: u32, live: bool) -> vec4f {
  let k = taps_of(p, s.short);
  let place = k.rest * P.outVolume;
  return gather(s.columns, place, -i32(k.d * STEP_D), -i32(k.h * STEP_H), -i32(k.w * STEP_W), live);
}
fn depth_of(batch: u32) -> u32 {
  let phase = phase_of(batch);
  return P.outputs * axis_d(phase.d).taps * axis_h(phase.h).taps * axis_w(phase.w).taps;
}
fn row_place(batch: u32, i: u32) -> u32 { return (phase_of(batch).channels * P.m + i) * P.inVolume; }
fn column_places(batch: u32, j: u32) -> vec4u {
  let phase = phase_of(batch);
  let s = spots_of(four(j), P.spotsD, P.spotsH, P.spotsW);
  let d = s.d * P.strideD + phase.d;
  let h = s.h * P.strideH + phase.h;
  let w = s.w * P.strideW + phase.w;
  let inside = (four(j) < vec4u(P.n)) & (d < vec4u(P.inD)) & (h < vec4u(P.inH)) & (w < vec4u(P.inW));
  return select(vec4u(NOWHERE), s.rest * P.inChannels * P.inVolume + (d * P.inH + h) * P.inW + w, inside);
}
${noRowExtra}
${noColumnExtra}`,
};
