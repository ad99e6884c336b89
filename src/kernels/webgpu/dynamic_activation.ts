import { partOf } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { DynamicPlan, KernelSet } from "../kernel_set.js";
import { ACTIVATION } from "./activation.js";
import { run } from "./device.js";
import { groupsFor, only } from "./elementwise.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import { planOf, reduceInto } from "./reduction.js";
import { joinText } from "./wgsl_reduce.js";

const LANES = 256;

/** The curve at v and its slope; that of tanh without 1 - tanh^2, which cancels. */
const curves = { tanh: "tanh_(v)", erf: "erf_(v)" };
const slopes = { tanh: "4.0 * sigmoid_slope(v + v)", erf: "exp(-v * v) * 1.12837917" };

const read = { access: "read" } as const;
const write = { access: "write" } as const;
const weights = { weight: { ...read, absent: "1.0" }, bias: read } as const;

const forward: Program = {
  name: "dynamic_activation",
  operands: { x: read, ...weights, y: write },
  parameters: { length: "u32", size: "u32", alpha: "f32", shift: "f32" },
  lanes: LANES,
  wide: true,
  code: `${MATH}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.length / STEP) { return; }
  let column = i % (P.size / STEP);
  let v = P.alpha * x_at(i) + P.shift;
  y_set(i, weight_at(column) * $VALUE + bias_at(column));
}`,
};

/**
 * A line is a piece of a column (or of four), which `width` lanes take together. `parts` gets, one after another and for each
 * line, the sums of dy f(v), of dy, of h x and of h, where dx = alpha h.
 */
const gradient = (width: number): Program => ({
  name: "dynamic_activation_grad",
  operands: { x: read, dy: read, weight: weights.weight, dx: write, parts: write },
  parameters: { lines: "u32", rows: "u32", size: "u32", piece: "u32", alpha: "f32", shift: "f32" },
  lanes: LANES,
  wide: true,
  code: `${MATH}${ACTIVATION}
${joinText("join_lanes", "E", LANES, width)}
fn run(group: u32, lane: u32) {
  let line = group * ${LANES / width}u + lane / ${width}u;
  let size = P.size / STEP;
  let lines = P.lines / STEP;
  let column = line % size;
  let start = line / size * P.piece;
  let inside = line < lines;
  var d_weight = E(0.0);
  var d_bias = E(0.0);
  var sum_hx = E(0.0);
  var sum_h = E(0.0);
  if (inside) {
    let weight = weight_at(column);
    for (var r = start + lane % ${width}u; r < min(P.rows, start + P.piece); r += ${width}u) {
      let i = r * size + column;
      let x = x_at(i);
      let g = dy_at(i);
      let v = P.alpha * x + P.shift;
      let h = weight * g * ($SLOPE);
      dx_set(i, P.alpha * h);
      d_weight += g * $VALUE;
      d_bias += g;
      sum_hx += h * x;
      sum_h += h;
    }
  }
  let first = inside && lane % ${width}u == 0u;
  d_weight = join_lanes(d_weight, lane);
  if (first) { parts_set(line, d_weight); }
  d_bias = join_lanes(d_bias, lane);
  if (first) { parts_set(lines + line, d_bias); }
  sum_hx = join_lanes(sum_hx, lane);
  if (first) { parts_set(2u * lines + line, sum_hx); }
  sum_h = join_lanes(sum_h, lane);
  if (first) { parts_set(3u * lines + line, sum_h); }
}`,
});

const gradients = new Map<number, Program>();

function gradientFor(width: number): Program {
  let program = gradients.get(width);
  if (!program) {
    program = gradient(width);
    gradients.set(width, program);
  }
  return program;
}

const constantsOf = ({ op }: DynamicPlan) => ({ VALUE: curves[op], SLOPE: slopes[op] });

export const dynamicActivation: Pick<KernelSet, "dynamicActivation" | "dynamicActivationGrad"> = {
  dynamicActivation(x, weight, bias, y, plan) {
    only("dynamicActivation", ["float32"], x, weight, bias, y);
    const { size, alpha, shift } = plan;
    run(forward, {
      operands: { x, weight, bias, y },
      parameters: { length: y.length, size, alpha, shift },
      groups: groupsFor(y.length),
      constants: constantsOf(plan),
      wide: size % 4 === 0,
    });
  },

  dynamicActivationGrad(x, dy, weight, { dx, dWeight, dBias }, sums, plan) {
    only("dynamicActivationGrad", ["float32"], x, dy, weight, dx, dWeight, dBias);
    const { rows, size, alpha, shift } = plan;
    const { width, piece } = planOf({ outer: 1, reduce: rows, inner: size });
    const pieces = Math.ceil(rows / piece);
    const lines = pieces * size;
    const parts = new Storage(4 * lines, "float32", "webgpu");
    run(gradientFor(width), {
      operands: { x, dy, weight, dx, parts },
      parameters: { lines, rows, size, piece, alpha, shift },
      groups: (step) => Math.ceil((lines * width) / (LANES * step)),
      constants: constantsOf(plan),
      wide: size % 4 === 0,
    });
    for (const [i, to] of [dWeight, dBias].entries()) {
      if (to) reduceInto("sum", partOf(parts, i * lines, lines), to, { outer: 1, reduce: pieces, inner: size });
    }
    reduceInto("sum", partOf(parts, 2 * lines, 2 * lines), sums, { outer: 2, reduce: lines, inner: 1 });
    parts.release();
  },
};
