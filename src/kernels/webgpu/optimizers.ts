import type { Slot } from "../../memory/heap.js";
import { partOf } from "../../memory/heap.js";
import type { KernelSet, Slots } from "../kernel_set.js";
import { run } from "./device.js";
import { groupsFor, only } from "./elementwise.js";
import type { Program } from "./program.js";
import { reduceInto } from "./reduction.js";

const LANES = 256;
const write = { access: "write" } as const;

/** A shader that updates each element i of `p` and of its state by itself; d is the gradient to follow. */
function updateProgram(name: string, state: readonly string[], parameters: readonly string[], body: string): Program {
  return {
    name,
    operands: { p: write, g: { access: "read" }, ...Object.fromEntries(state.map((s) => [s, write])) },
    parameters: { size: "u32", sign: "f32", ...Object.fromEntries(parameters.map((s) => [s, "f32" as const])) },
    lanes: LANES,
    wide: true,
    code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= (P.size + STEP - 1u) / STEP) { return; }
  var w = p_at(i);
  var d = P.sign * g_at(i);
  ${body}
  p_set(i, w);
}`,
  };
}

/** What is multiplied by 0 must not be infinite, so that absent decay is left out. */
const sgd = updateProgram(
  "sgd",
  ["velocity"],
  ["lr", "momentum", "undamped", "decay"],
  `
  if (DECAY) { d += P.decay * w; }
  if (HAS_velocity) {
    var v = d;
    if (!FIRST) { v = P.momentum * velocity_at(i) + P.undamped * d; }
    velocity_set(i, v);
    if (NESTEROV) { d += P.momentum * v; } else { d = v; }
  }
  w -= P.lr * d;`,
);

const adam = updateProgram(
  "adam",
  ["m", "v"],
  ["rate", "rest1", "beta2", "rest2", "eps", "decay", "shrink", "root"],
  `
  if (DECAY) { d += P.decay * w; }
  if (SHRINK) { w *= P.shrink; }
  // m + (1 - beta1)(d - m): a beta1 near 1 would lose digits in float32 beside 1 - beta1.
  let m = m_at(i) + P.rest1 * (d - m_at(i));
  let v = P.beta2 * v_at(i) + P.rest2 * d * d;
  m_set(i, m);
  v_set(i, v);
  w -= P.rate * m / (sqrt(v) * P.root + P.eps);`,
);

const rmsprop = updateProgram(
  "rmsprop",
  ["square", "average", "velocity"],
  ["lr", "alpha", "rest", "eps", "decay", "momentum"],
  `
  if (DECAY) { d += P.decay * w; }
  var spread = P.alpha * square_at(i) + P.rest * d * d;
  square_set(i, spread);
  if (HAS_average) {
    let mean = P.alpha * average_at(i) + P.rest * d;
    average_set(i, mean);
    // Rounding can leave the variance of a steady gradient just below 0.
    spread = max(spread - mean * mean, E(0.0));
  }
  var update = d / (sqrt(spread) + P.eps);
  if (HAS_velocity) {
    update += P.momentum * velocity_at(i);
    velocity_set(i, update);
  }
  w -= P.lr * update;`,
);

const scale: Program = {
  name: "scale_of",
  operands: { x: write },
  parameters: { size: "u32", factor: "f32" },
  lanes: LANES,
  wide: true,
  code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i < (P.size + STEP - 1u) / STEP) { x_set(i, P.factor * x_at(i)); }
}`,
};

function each(
  program: Program,
  lists: Readonly<Record<string, Slots | null>>,
  parameters: Readonly<Record<string, number>>,
  constants: Readonly<Record<string, boolean>>,
): void {
  const first = lists.p!;
  for (let i = 0; i < first.length; i++) {
    const operands: Record<string, Slot | null> = {};
    for (const name in lists) {
      const slot = lists[name]?.[i] ?? null;
      only(program.name, ["float32"], slot);
      operands[name] = slot;
    }
    const { length } = first[i]!;
    run(program, { operands, parameters: { size: length, ...parameters }, groups: groupsFor(length), constants });
  }
}

const signOf = (o: { readonly maximize: boolean }): number => (o.maximize ? -1 : 1);

type Updates = Pick<KernelSet, "sgd" | "adam" | "rmsprop" | "sumSquaresOf" | "scaleOf">;

export const optimizers: Updates = {
  sgd(p, g, velocity, o) {
    const { lr, momentum, dampening, weightDecay, nesterov, first } = o;
    const parameters = { sign: signOf(o), lr, momentum, undamped: 1 - dampening, decay: weightDecay };
    each(sgd, { p, g, velocity }, parameters, { DECAY: weightDecay !== 0, FIRST: first, NESTEROV: nesterov });
  },

  adam(p, g, m, v, o) {
    const { lr, beta1, beta2, eps, weightDecay, decoupled } = o;
    const parameters = {
      ...{ sign: signOf(o), rate: lr / o.correction1, rest1: 1 - beta1, beta2, rest2: 1 - beta2, eps },
      ...{ decay: weightDecay, shrink: 1 - lr * weightDecay, root: 1 / Math.sqrt(o.correction2) },
    };
    const decays = weightDecay !== 0;
    each(adam, { p, g, m, v }, parameters, { DECAY: decays && !decoupled, SHRINK: decays && decoupled });
  },

  rmsprop(p, g, square, average, velocity, o) {
    const { lr, alpha, eps, weightDecay, momentum } = o;
    const parameters = { sign: signOf(o), lr, alpha, rest: 1 - alpha, eps, decay: weightDecay, momentum };
    each(rmsprop, { p, g, square, average, velocity }, parameters, { DECAY: weightDecay !== 0 });
  },

  sumSquaresOf(xs, sums) {
    only("sumSquaresOf", ["float32"], sums, ...xs);
    for (const [i, x] of xs.entries()) {
      reduceInto("sumSquares", x, partOf(sums, i, 1), { outer: 1, reduce: x.length, inner: 1 });
    }
  },

  scaleOf(xs, factor) {
    only("scaleOf", ["float32"], ...xs);
    for (const x of xs) {
      run(scale, { operands: { x }, parameters: { size: x.length, factor }, groups: groupsFor(x.length) });
    }
  },
};
