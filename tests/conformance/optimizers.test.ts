import { describe, expect, test } from "vitest";
import type { AdamStep, KernelSet, RmspropStep, SgdStep } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import type { Storage } from "../../src/memory/storage.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const sizes = [0, ...awkwardSizes, 70_001];
const STEPS = 3;

const sgdBase: SgdStep = {
  lr: 0.1,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  first: false,
  maximize: false,
};
const adamBase: AdamStep = {
  lr: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  decoupled: false,
  correction1: 1,
  correction2: 1,
  maximize: false,
};
const rmspropBase: RmspropStep = { lr: 0.01, alpha: 0.9, eps: 1e-8, weightDecay: 0, momentum: 0, maximize: false };

/** Three steps of `step` (t from 1) from the same start, on each size; the outputs are the parameter and its state. */
function steps(
  name: string,
  states: number,
  step: (kernels: KernelSet, t: number, p: Storage, g: Storage, state: Storage[]) => void,
): ConformanceCase {
  return {
    name,
    // Three steps add their roundings to those of the state they carry.
    tolerance: 5e-7,
    float16: "parameters that are trained are float32",
    run: (kernels, make) =>
      sizes.flatMap((n) => {
        const p = make.normal(n);
        const state = Array.from({ length: states }, () => make.from(new Array(n).fill(0)));
        for (let t = 1; t <= STEPS; t++) step(kernels, t, p, make.normal(n), state);
        return [p, ...state];
      }),
  };
}

const sgdCase = (name: string, o: Partial<SgdStep>) =>
  steps(`sgd ${name}`, o.momentum ? 1 : 0, (kernels, t, p, g, [velocity]) =>
    kernels.sgd([p], [g], velocity ? [velocity] : null, { ...sgdBase, ...o, first: t === 1 }),
  );
const adamCase = (name: string, o: Partial<AdamStep>) =>
  steps(`adam ${name}`, 2, (kernels, t, p, g, [m, v]) => {
    const full = { ...adamBase, ...o };
    const corrections = { correction1: 1 - full.beta1 ** t, correction2: 1 - full.beta2 ** t };
    kernels.adam([p], [g], [m!], [v!], { ...full, ...corrections });
  });
const rmspropCase = (name: string, o: Partial<RmspropStep>, centred: boolean): ConformanceCase => ({
  ...steps(`rmsprop ${name}`, 1 + (centred ? 1 : 0) + (o.momentum ? 1 : 0), (kernels, _, p, g, state) => {
    const [square, second, third] = state;
    const average = centred ? [second!] : null;
    const velocity = o.momentum ? [centred ? third! : second!] : null;
    kernels.rmsprop([p], [g], [square!], average, velocity, { ...rmspropBase, ...o });
  }),
  // Centred: square - average^2 at alpha 0.9 starts as 0.1 g^2 - 0.01 g^2 and cancels further where gradients agree;
  // 70,001 draws contain some for which it has lost most of its digits.
  tolerance: centred ? 5e-6 : 5e-7,
});

/** Many tensors in one call, of sizes that end within a unit, at its end and far behind it, and one that is empty. */
const mixed = [1, 2047, 0, 2048, 3, 20_001, 4096, 16_384, 7, 33_000];

function together(name: string, states: number, update: (kernels: KernelSet, lists: Storage[][]) => void) {
  const run = (kernels: KernelSet, make: Maker): Storage[] => {
    const lists = Array.from({ length: states }, () => mixed.map((n) => make.uniform(n, 0.5, 2)));
    update(kernels, lists);
    return lists.flat();
  };
  return { name: `${name}, many tensors in one call`, tolerance: 5e-7, run };
}

conformance("optimizers", [
  together("sgd", 3, (kernels, [p, g, v]) => kernels.sgd(p!, g!, v!, { ...sgdBase, momentum: 0.9 })),
  together("adam", 4, (kernels, [p, g, m, v]) => kernels.adam(p!, g!, m!, v!, adamBase)),
  together("rmsprop", 4, (kernels, [p, g, s, v]) =>
    kernels.rmsprop(p!, g!, s!, null, v!, { ...rmspropBase, momentum: 0.5, eps: 0.1 }),
  ),
  together("scaleOf", 1, (kernels, [xs]) => kernels.scaleOf(xs!, 1 / 3)),
  {
    name: "sumSquaresOf",
    tolerance: 1e-7,
    run(kernels, make) {
      const xs = mixed.map((n) => make.normal(n));
      const sums = make.empty(mixed.length);
      kernels.sumSquaresOf(xs, sums);
      return [sums];
    },
  },
  sgdCase("plain", {}),
  sgdCase("with weight decay, uphill", { weightDecay: 0.1, maximize: true }),
  sgdCase("with momentum", { momentum: 0.9 }),
  sgdCase("with momentum, dampening and weight decay", { momentum: 0.8, dampening: 0.3, weightDecay: 0.01 }),
  sgdCase("with Nesterov momentum", { momentum: 0.9, nesterov: true, weightDecay: 0.01 }),
  adamCase("plain", {}),
  adamCase("with weight decay in the gradient, uphill", { weightDecay: 0.1, maximize: true }),
  adamCase("with decoupled weight decay (AdamW)", { weightDecay: 0.1, decoupled: true }),
  adamCase("with a large eps", { eps: 0.5, beta1: 0.5, beta2: 0.9 }),
  rmspropCase("plain", {}, false),
  // Where weight decay cancels a gradient, only its rounding is left, and a first step blows that up to 1 / sqrt(1 - alpha)
  // unless eps is large.
  rmspropCase("with momentum, decay, uphill", { momentum: 0.9, weightDecay: 0.1, maximize: true, eps: 0.1 }, false),
  rmspropCase("centred", {}, true),
  rmspropCase("centred with momentum", { momentum: 0.9 }, true),
]);

describe.each([
  ["wasm", wasm as KernelSet, "float32"],
  ["reference", reference, "float64"],
] as const)("steps worked out by hand, %s", (_, kernels, float) => {
  const run = (body: (make: Maker) => void) => {
    const make = new Maker(float, 0);
    try {
      body(make);
    } finally {
      make.release();
    }
  };
  const one = (make: Maker, value: number) => make.from(new Array(5).fill(value));
  const expectAll = (s: Storage, value: number) => {
    for (const v of s.view) expect(v).toBeCloseTo(value, 6);
  };

  test("sgd: the first velocity is the gradient, without dampening", () =>
    run((make) => {
      const [p, g, v] = [one(make, 1), one(make, 2), one(make, Number.NaN)];
      kernels.sgd([p], [g], [v], { ...sgdBase, momentum: 0.5, dampening: 0.25, first: true });
      expectAll(v, 2);
      expectAll(p, 0.8);
      kernels.sgd([p], [g], [v], { ...sgdBase, momentum: 0.5, dampening: 0.25 });
      expectAll(v, 0.5 * 2 + 0.75 * 2);
      expectAll(p, 0.8 - 0.1 * 2.5);
    }));

  test("sgd: Nesterov adds momentum times the new velocity", () =>
    run((make) => {
      const [p, g, v] = [one(make, 1), one(make, 2), one(make, 4)];
      kernels.sgd([p], [g], [v], { ...sgdBase, momentum: 0.5, nesterov: true });
      expectAll(v, 4);
      expectAll(p, 1 - 0.1 * (2 + 0.5 * 4));
    }));

  test("adam: the first step moves by lr against the sign of the gradient", () =>
    run((make) => {
      const [p, g, m, v] = [one(make, 1), one(make, -3), one(make, 0), one(make, 0)];
      kernels.adam([p], [g], [m], [v], { ...adamBase, correction1: 0.1, correction2: 0.001 });
      expectAll(m, -0.3);
      expectAll(v, 0.009);
      expectAll(p, 1.01);
    }));

  test("adam: decoupled decay shrinks the parameter and stays out of the moments", () =>
    run((make) => {
      const [p, g, m, v] = [one(make, 2), one(make, 0), one(make, 0), one(make, 0)];
      kernels.adam([p], [g], [m], [v], { ...adamBase, lr: 0.1, weightDecay: 0.5, decoupled: true });
      expectAll(m, 0);
      expectAll(p, 2 * (1 - 0.05));
    }));

  test("rmsprop: centred, a gradient equal to its average leaves eps alone below the line", () =>
    run((make) => {
      const [p, g, square, average, velocity] = [one(make, 1), one(make, 2), one(make, 4), one(make, 2), one(make, 3)];
      kernels.rmsprop([p], [g], [square], [average], [velocity], { ...rmspropBase, alpha: 0.5, eps: 4, momentum: 0.5 });
      expectAll(square, 4);
      expectAll(average, 2);
      expectAll(velocity, 0.5 * 3 + 2 / 4);
      expectAll(p, 1 - 0.01 * 2);
    }));

  test("an infinite parameter without weight decay does not become NaN", () =>
    run((make) => {
      const [p, g] = [one(make, Number.POSITIVE_INFINITY), one(make, 1)];
      kernels.sgd([p], [g], null, sgdBase);
      expect([...p.view]).toEqual(new Array(5).fill(Number.POSITIVE_INFINITY));
    }));
});
