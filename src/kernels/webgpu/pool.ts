import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { AdaptivePlan, KernelSet, PoolPlan } from "../kernel_set.js";
import { run } from "./device.js";
import { elementwise, groupsFor, only } from "./elementwise.js";
import { optimizers } from "./optimizers.js";
import type { Constants, Program } from "./program.js";
import { reduceInto } from "./reduction.js";

const LANES = 256;
const axes = [0, 1, 2] as const;
const each = (text: (axis: number) => string): string => axes.map(text).join("\n");

/**
 * For each axis: where the window of output o starts, how many taps it has and what an average divides by; and, for the
 * gradients, which outputs may look at input i, in their order (-1 where that is none).
 */
const windows = each(
  (k) => `
fn start${k}(o: i32) -> i32 { return o * i32(STRIDE${k}) - P.padding${k}; }
fn taps${k}(o: i32) -> i32 { return i32(KERNEL${k}); }
fn divisor${k}(o: i32) -> i32 {
  let gap = i32(DILATION${k});
  if (COUNT_PADDING) { return min(i32(KERNEL${k}), (P.input${k} + P.padding${k} - start${k}(o) + gap - 1) / gap); }
  let low = (max(0, -start${k}(o)) + gap - 1) / gap;
  let high = min(i32(KERNEL${k}), (max(0, P.input${k} - start${k}(o)) + gap - 1) / gap);
  return max(0, high - low);
}
fn users${k}(i: i32) -> i32 { return i32(KERNEL${k}); }
fn user${k}(i: i32, n: i32) -> i32 {
  let reach = i + P.padding${k} - (i32(KERNEL${k}) - 1 - n) * i32(DILATION${k});
  let o = reach / i32(STRIDE${k});
  return select(-1, o, reach >= 0 && o * i32(STRIDE${k}) == reach && o < P.output${k});
}`,
);
/** Window o spans [floor(o n / m), ceil((o + 1) n / m)). */
const spans = each(
  (k) => `
const DILATION${k} = 1u;
fn start${k}(o: i32) -> i32 { return o * P.input${k} / P.output${k}; }
fn taps${k}(o: i32) -> i32 { return ((o + 1) * P.input${k} + P.output${k} - 1) / P.output${k} - start${k}(o); }
fn divisor${k}(o: i32) -> i32 { return taps${k}(o); }
fn users${k}(i: i32) -> i32 { return ((i + 1) * P.output${k} + P.input${k} - 1) / P.input${k} - user${k}(i, 0); }
fn user${k}(i: i32, n: i32) -> i32 { return i * P.output${k} / P.input${k} + n; }`,
);

/** The place on each axis of element `i` of planes of this shape, and the plane. */
const places = (side: "input" | "output"): string => `
  let i = group * LANES + lane;
  if (i >= P.size) { return; }
  let a2 = i32(i % u32(P.${side}2));
  let a1 = i32(i / u32(P.${side}2) % u32(P.${side}1));
  let a0 = i32(i / u32(P.${side}2 * P.${side}1) % u32(P.${side}0));
  let plane = i / u32(P.${side}2 * P.${side}1 * P.${side}0);
  let input_plane = plane * u32(P.input0 * P.input1 * P.input2);
  let output_plane = plane * u32(P.output0 * P.output1 * P.output2);`;

/** Calls `body` for each tap within the input, whose place in the plane is \`at\`. */
const eachTap = (body: string): string => `
  for (var t0 = 0; t0 < taps0(a0); t0++) {
    let i0 = start0(a0) + t0 * i32(DILATION0);
    if (i0 < 0 || i0 >= P.input0) { continue; }
    for (var t1 = 0; t1 < taps1(a1); t1++) {
      let i1 = start1(a1) + t1 * i32(DILATION1);
      if (i1 < 0 || i1 >= P.input1) { continue; }
      for (var t2 = 0; t2 < taps2(a2); t2++) {
        let i2 = start2(a2) + t2 * i32(DILATION2);
        if (i2 < 0 || i2 >= P.input2) { continue; }
        let at = (i0 * P.input1 + i1) * P.input2 + i2;
        ${body}
      }
    }
  }`;
/** Calls `body` for each output that looks at the element, in order; \`out\` is its place among all. */
const eachUser = (body: string): string => `
  for (var n0 = 0; n0 < users0(a0); n0++) {
    let o0 = user0(a0, n0);
    if (o0 < 0) { continue; }
    for (var n1 = 0; n1 < users1(a1); n1++) {
      let o1 = user1(a1, n1);
      if (o1 < 0) { continue; }
      for (var n2 = 0; n2 < users2(a2); n2++) {
        let o2 = user2(a2, n2);
        if (o2 < 0) { continue; }
        let out = output_plane + u32((o0 * P.output1 + o1) * P.output2 + o2);
        ${body}
      }
    }
  }`;

const read = { access: "read" } as const;
const write = { access: "write" } as const;
const triple = (name: string) => Object.fromEntries(axes.map((k) => [`${name}${k}`, "i32" as const]));
const lengths: Program["parameters"] = { size: "u32", ...triple("input"), ...triple("output") };

function poolProgram(name: string, operands: Program["operands"], geometry: string, body: string): Program {
  const parameters = geometry === windows ? { ...lengths, ...triple("padding") } : lengths;
  const code = `${geometry}
var<private> INFINITE: u32 = 0x7f800000u;
fn run(group: u32, lane: u32) {${body}
}`;
  return { name, operands, parameters, lanes: LANES, code };
}

/** Of several NaN the last wins, of equal values the first, and one of them even where all are -infinity. */
const maxPool = poolProgram(
  "max_pool",
  { x: read, y: write, index: write },
  windows,
  `${places("output")}
  var best = -bitcast<f32>(INFINITE);
  var place = -1;
  var lost = false;
  ${eachTap(`
        let v = x_at(input_plane + u32(at));
        let unknown = (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
        if (place < 0 || unknown || (!lost && v > best)) {
          best = v;
          place = at;
          lost = unknown;
        }`)}
  y_set(i, best);
  index_set(i, place);`,
);
const maxPoolGrad = poolProgram(
  "max_pool_grad",
  { dy: read, index: read, dx: write },
  windows,
  `${places("input")}
  let at = i32(i - input_plane);
  var sum = 0.0;
  ${eachUser("if (index_at(out) == at) { sum += dy_at(out); }")}
  dx_set(i, sum);`,
);
const average = (name: string, geometry: string): Program =>
  poolProgram(
    name,
    { x: read, y: write },
    geometry,
    `${places("output")}
  var sum = 0.0;
  ${eachTap("sum += x_at(input_plane + u32(at));")}
  y_set(i, sum / f32(divisor0(a0) * divisor1(a1) * divisor2(a2)));`,
  );
const averageGrad = (name: string, geometry: string): Program =>
  poolProgram(
    name,
    { dy: read, dx: write },
    geometry,
    `${places("input")}
  var sum = 0.0;
  ${eachUser("sum += dy_at(out) / f32(divisor0(o0) * divisor1(o1) * divisor2(o2));")}
  dx_set(i, sum);`,
  );

const avgPool = average("avg_pool", windows);
const avgPoolGrad = averageGrad("avg_pool_grad", windows);
const adaptiveAvgPool = average("adaptive_avg_pool", spans);
const adaptiveAvgPoolGrad = averageGrad("adaptive_avg_pool_grad", spans);

/** One lane for each element of `to`. */
function launch(program: Program, operands: Readonly<Record<string, Slot>>, to: Slot, plan: PoolPlan | AdaptivePlan) {
  const parameters: Record<string, number> = { size: to.length };
  const constants: Record<string, number | boolean> = {};
  for (const k of axes) {
    parameters[`input${k}`] = plan.input[k];
    parameters[`output${k}`] = plan.output[k];
    if (!("kernel" in plan)) continue;
    parameters[`padding${k}`] = plan.padding[k];
    constants[`KERNEL${k}`] = plan.kernel[k];
    constants[`STRIDE${k}`] = plan.stride[k];
    constants[`DILATION${k}`] = plan.dilation[k];
    constants.COUNT_PADDING = plan.countIncludePad;
  }
  run(program, { operands, parameters, groups: groupsFor(to.length), constants: constants satisfies Constants });
}

type PoolKernels = "maxPool" | "maxPoolGrad" | "avgPool" | "avgPoolGrad" | "adaptiveAvgPool" | "adaptiveAvgPoolGrad";

export const pool: Pick<KernelSet, PoolKernels> = {
  maxPool(x, y, index, plan) {
    only("maxPool", ["float32"], x, y);
    launch(maxPool, { x, y, index }, y, plan);
  },

  maxPoolGrad(dy, index, dx, plan) {
    only("maxPoolGrad", ["float32"], dy, dx);
    launch(maxPoolGrad, { dy, index, dx }, dx, plan);
  },

  avgPool(x, y, plan) {
    only("avgPool", ["float32"], x, y);
    launch(avgPool, { x, y }, y, plan);
  },

  avgPoolGrad(dy, dx, plan) {
    only("avgPoolGrad", ["float32"], dy, dx);
    launch(avgPoolGrad, { dy, dx }, dx, plan);
  },

  adaptiveAvgPool(x, y, plan) {
    only("adaptiveAvgPool", ["float32"], x, y);
    const { planes, input, output } = plan;
    if (output.some((n) => n !== 1)) {
      launch(adaptiveAvgPool, { x, y }, y, plan);
      return;
    }
    // One window a plane leaves too few lanes, with too much to do each.
    const volume = input[0] * input[1] * input[2];
    // float16 would be rounded to twice, and a sum may be beyond it.
    const sums = y.dtype === "float16" ? new Storage(y.length, "float32", "webgpu") : null;
    reduceInto("sum", x, sums ?? y, { outer: planes, reduce: volume, inner: 1 });
    optimizers.scaleOf([sums ?? y], 1 / volume);
    if (!sums) return;
    elementwise.cast(sums, y);
    sums.release();
  },

  adaptiveAvgPoolGrad(dy, dx, plan) {
    only("adaptiveAvgPoolGrad", ["float32"], dy, dx);
    launch(adaptiveAvgPoolGrad, { dy, dx }, dx, plan);
  },
};
