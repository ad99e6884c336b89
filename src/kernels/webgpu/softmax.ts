import type { KernelSet } from "../kernel_set.js";
import { run } from "./device.js";
import { groupsFor, only } from "./elementwise.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import { lanesFor } from "./reduction.js";
import { joinText } from "./wgsl_reduce.js";

const LANES = 256;

/** Lanes that take a row together, so that each reads some eight numbers, and the groups that rows then need. */
const widthOf = (size: number): number => lanesFor(size / 8, LANES);
const groupsOf = (rows: number, width: number): number => Math.ceil((rows * width) / LANES);

const FOLD = `
fn fold(v: E) -> f32 {
  let q = vec4f(v);
  return select((q.x + q.y) + (q.z + q.w), q.x, STEP == 1u);
}`;
/** Where the row of a lane starts and ends, in elements. */
const ROW = (width: number): string => `
  let row = group * ${LANES / width}u + lane / ${width}u;
  let size = P.size / STEP;
  let end = select(0u, (row + 1u) * size, row < P.rows);
  let start = row * size + lane % ${width}u;
`;

/**
 * The logarithm of the sum of exponentials is that of `ties`, how often the largest number occurs, plus log1p of the rest: the
 * loss of a confident prediction is that rest alone.
 */
const softmaxText = (width: number, loss: boolean): string => `${MATH}${FOLD}
fn is_finite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) < 0x7f800000u; }
fn larger(a: f32, b: f32) -> f32 {
  let unknown = max(bitcast<u32>(a) & 0x7fffffffu, bitcast<u32>(b) & 0x7fffffffu) > 0x7f800000u;
  return select(max(a, b), bitcast<f32>(NOT_A_NUMBER), unknown);
}
${joinText("join_top", "f32", LANES, width, "larger(a, b)")}
${joinText("join_sums", "vec3f", LANES, width)}
fn run(group: u32, lane: u32) {
  ${ROW(width)}
  var top = -bitcast<f32>(INFINITE);
  for (var i = start; i < end; i += ${width}u) {
    let q = vec4f(x_at(i));
    top = larger(top, larger(larger(q.x, q.y), larger(q.z, q.w)));
  }
  top = join_top(top, lane);
  var rest = E(0.0);
  var ties = E(0.0);
  var total = E(0.0);
  for (var i = start; i < end; i += ${width}u) {
    let s = x_at(i) - top;
    let tie = s == E(0.0);
    ties += select(E(0.0), E(1.0), tie);
    rest += select(exp(s), E(0.0), tie);
    total += s;
  }
  ${loss ? lossInput(width) : ""}
  let sums = join_sums(vec3f(fold(rest), fold(ties), fold(total)), lane);
  var below = E(sums.x + sums.y);
  if (LOG) { below = log_(E(sums.y)) + log1p_(E(sums.x / sums.y)); }
  for (var i = start; i < end; i += ${width}u) {
    let s = x_at(i) - top;
    var y = E(bitcast<f32>(NOT_A_NUMBER));
    // Where the largest number is infinite, or NaN, nothing is left of the row.
    if (is_finite(top)) { if (LOG) { y = s - below; } else { y = exp(s) / below; } }
    y_set(i, y);
  }
  ${loss ? LOSS : ""}
}`;

/** y may be x: the number of the target is read before any lane writes. */
const lossInput = (width: number): string => `
  let first = lane % ${width}u == 0u && row < P.rows;
  var label = -1;
  var hit = 0.0;
  if (first) { label = target_at(row); }
  let known = label >= 0 && label < i32(P.size);
  if (known) {
    let at = row * P.size + u32(label);
    hit = vec4f(x_at(at / STEP))[at % STEP] - top;
  }`;
/** A target that is no class gives NaN: nobody has checked it, since it lies on the device. */
const LOSS = `
  if (first) {
    let log_sum = vec4f(below).x;
    var loss = -P.keep * (hit - log_sum);
    // Without smoothing the sum must not enter: it may be infinite, and 0 times infinity is NaN.
    if (SMOOTH) { loss -= P.share * (sums.z - f32(P.size) * log_sum); }
    if (!known || !is_finite(top)) { loss = bitcast<f32>(NOT_A_NUMBER); }
    losses_set(row, select(loss, 0.0, label == P.ignore));
  }`;

const gradientText = (width: number): string => `${FOLD}
${joinText("join_sum", "f32", LANES, width)}
fn run(group: u32, lane: u32) {
  ${ROW(width)}
  var part = E(0.0);
  for (var i = start; i < end; i += ${width}u) {
    if (LOG) { part += dy_at(i); } else { part += y_at(i) * dy_at(i); }
  }
  let sum = join_sum(fold(part), lane);
  for (var i = start; i < end; i += ${width}u) {
    let y = y_at(i);
    if (LOG) { dx_set(i, dy_at(i) - exp(y) * sum); } else { dx_set(i, y * (dy_at(i) - sum)); }
  }
}`;

const read = { access: "read" } as const;
const write = { access: "write" } as const;
const shared = { parameters: { rows: "u32", size: "u32" }, lanes: LANES, wide: true } as const;

/** By the lanes of a row. */
const kinds = {
  softmax: (width: number): Program => ({
    ...shared,
    name: "softmax",
    operands: { x: read, y: write },
    code: softmaxText(width, false),
  }),
  crossEntropy: (width: number): Program => ({
    ...shared,
    name: "cross_entropy",
    operands: { x: read, y: write, target: { ...read, narrow: true }, losses: { ...write, narrow: true } },
    parameters: { ...shared.parameters, ignore: "i32", keep: "f32", share: "f32" },
    code: softmaxText(width, true),
  }),
  softmaxGrad: (width: number): Program => ({
    ...shared,
    name: "softmax_grad",
    operands: { y: read, dy: read, dx: write },
    code: gradientText(width),
  }),
};

const programs = new Map<string, Program>();

function programOf(kind: keyof typeof kinds, width: number): Program {
  const key = `${kind} ${width}`;
  let program = programs.get(key);
  if (!program) {
    program = kinds[kind](width);
    programs.set(key, program);
  }
  return program;
}

/** expm1 where the class is the target: softmax - 1 would cancel for a confident prediction. */
const crossEntropyGrad: Program = {
  name: "cross_entropy_grad",
  operands: { p: read, target: { ...read, narrow: true }, scale: { ...read, narrow: true }, y: write },
  parameters: { length: "u32", size: "u32", ignore: "i32", smoothing: "f32", share: "f32" },
  lanes: LANES,
  wide: true,
  code: `${MATH}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.length / STEP) { return; }
  let row = i * STEP / P.size;
  let label = target_at(row);
  var y = E(0.0);
  if (label != P.ignore) {
    let p = p_at(i);
    let hit = U(i * STEP % P.size) + RAMP == U(u32(label));
    y = scale_at(row) * (select(exp(p), expm1_(p) + P.smoothing, hit) - P.share);
    if (label < 0 || label >= i32(P.size)) { y = E(bitcast<f32>(NOT_A_NUMBER)); }
  }
  y_set(i, y);
}`,
};

export const softmax: Pick<KernelSet, "softmax" | "softmaxGrad" | "crossEntropy" | "crossEntropyGrad"> = {
  softmax(x, y, rows, size, log) {
    only("softmax", ["float32"], x, y);
    const width = widthOf(size);
    run(programOf("softmax", width), {
      operands: { x, y },
      parameters: { rows, size },
      groups: groupsOf(rows, width),
      constants: { LOG: log },
      wide: size % 4 === 0,
    });
  },

  softmaxGrad(y, dy, dx, rows, size, log) {
    only("softmaxGrad", ["float32"], y, dy, dx);
    const width = widthOf(size);
    run(programOf("softmaxGrad", width), {
      operands: { y, dy, dx },
      parameters: { rows, size },
      groups: groupsOf(rows, width),
      constants: { LOG: log },
      wide: size % 4 === 0,
    });
  },

  crossEntropy(logits, target, logProbs, losses, { rows, classes, smoothing, ignoreIndex }) {
    only("crossEntropy", ["float32"], logits, logProbs, losses);
    const width = widthOf(classes);
    const [keep, share] = [1 - smoothing, smoothing / classes];
    run(programOf("crossEntropy", width), {
      operands: { x: logits, y: logProbs, target, losses },
      parameters: { rows, size: classes, ignore: ignoreIndex, keep, share },
      groups: groupsOf(rows, width),
      constants: { LOG: true, SMOOTH: smoothing !== 0 },
      wide: classes % 4 === 0,
    });
  },

  crossEntropyGrad(logProbs, target, scale, dx, { classes, smoothing, ignoreIndex }) {
    only("crossEntropyGrad", ["float32"], logProbs, scale, dx);
    run(crossEntropyGrad, {
      operands: { p: logProbs, target, scale, y: dx },
      parameters: {
        length: dx.length,
        size: classes,
        ignore: ignoreIndex,
        smoothing,
        share: smoothing / classes,
      },
      groups: groupsFor(dx.length),
      wide: classes % 4 === 0,
    });
  },
};
