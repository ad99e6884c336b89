import { describe, expect, test } from "vitest";
import { gradCheck } from "../../src/autograd/grad_check.js";
import { concat, grad, randn, type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import type { Shape } from "../../src/base/shape.js";
import { heap } from "../../src/memory/heap.js";
import { scope } from "../../src/memory/scope.js";
import { relativeError } from "./harness.js";

/** An op as a function of the tensors it is differentiated by. */
export interface OpCase {
  readonly name: string;
  /** Values of each input; the same numbers are used in float64 and (rounded) in float32. */
  readonly inputs: readonly Tensor[];
  readonly apply: (...inputs: Tensor[]) => Tensor;
  /** Whether second derivatives are checked. Default true. */
  readonly twice?: boolean;
  /** Largest allowed float32 error relative to the largest value. Default 1e-6; say why where it is larger. */
  readonly float32?: number;
}

const random = new Random(2024);

/** Normal values, float64, exact in float32 too so that both types start from the same numbers. */
export function normal(shape: Shape, mean = 0, std = 1): Tensor {
  const t = randn(shape, { dtype: "float64", random });
  return t.assign(t.dataSync().map((v) => Math.fround(mean + std * v)));
}

/** Normal values, moved away from 0 by `gap`: for functions with a kink or a pole there. */
export function awayFromZero(shape: Shape, gap = 0.1): Tensor {
  const t = normal(shape);
  return t.assign(t.dataSync().map((v) => Math.fround(v + (v < 0 ? -gap : gap))));
}

/** Positive values between low and high. */
export function positive(shape: Shape, low = 0.5, high = 2): Tensor {
  const t = normal(shape);
  return t.assign(t.dataSync().map(() => Math.fround(low + (high - low) * random.uniform())));
}

/** Distinct multiples of a quarter, in random order: no ties, and no two that a small step would exchange. */
export function distinct(shape: Shape): Tensor {
  const t = normal(shape);
  const order = random.permutation(t.size);
  return t.assign(Float64Array.from(order, (v) => (v - Math.floor(t.size / 2)) / 4));
}

/** Gradients as one long vector, a function of the inputs and of the cotangent, which is the last argument. */
function gradients(c: OpCase): (...inputs: Tensor[]) => Tensor {
  return (...inputs) => {
    const cotangent = inputs[inputs.length - 1]!;
    const xs = inputs.slice(0, -1);
    const parts = grad(c.apply(...xs), xs, { gradOutput: cotangent, createGraph: true });
    return concat(parts.map((g) => g.reshape([-1])));
  };
}

/**
 * The slope of <w, f> along three random directions against central differences: what gradCheck does for each element,
 * at a price that does not grow with their number.
 */
function directionalErrors(f: (...inputs: Tensor[]) => Tensor, inputs: readonly Tensor[]): number[] {
  const leaves = inputs.map((t) => {
    const leaf = t.detach();
    leaf.requiresGrad = true;
    return leaf;
  });
  const y = f(...leaves);
  const w = normal(y.shape);
  const slopes = grad(y, leaves, { gradOutput: w });
  return [0, 1, 2].map(() => {
    const directions = inputs.map((t) => normal(t.shape));
    const at = (h: number) =>
      scope(() => {
        const moved = inputs.map((t, i) => t.detach().add(directions[i]!.mul(h)));
        for (const t of moved) t.requiresGrad = true;
        return f(...moved)
          .mul(w)
          .sum()
          .item();
      });
    const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
    const analytic = slopes.reduce((sum, g, i) => sum + g.mul(directions[i]!).sum().item(), 0);
    return Math.abs(analytic - numeric) / Math.max(1, Math.abs(numeric));
  });
}

/** Value and gradients of a case in one type, for one cotangent; with `createGraph` by the backward that is recorded. */
function run(c: OpCase, dtype: DType, cotangent: Tensor, createGraph = false): Float64Array[] {
  return scope(() => {
    const xs = c.inputs.map((x) => tensor(Float64Array.from(x.dataSync()), { shape: x.shape, dtype }));
    for (const x of xs) x.requiresGrad = true;
    const y = c.apply(...xs);
    expect(y.dtype).toBe(dtype);
    const parts = grad(y, xs, { gradOutput: cotangent.cast(dtype), createGraph });
    return [y, ...parts].map((t) => Float64Array.from(t.dataSync()));
  });
}

/**
 * For each case: gradients against central differences in float64 with a random cotangent, second derivatives likewise,
 * float32 against float64, and live bytes back where they were.
 */
export function checkOps(family: string, cases: readonly OpCase[]): void {
  describe(family, () => {
    for (const c of cases) {
      test(c.name, () => {
        const before = heap.stats.liveBytes;
        scope(() => checkOp(c));
        expect(heap.stats.liveBytes).toBe(before);
      });
    }
  });
}

function checkOp(c: OpCase): void {
  const cotangent = normal(c.apply(...c.inputs).shape);
  // Central differences with step 1e-5 leave about 1e-10 of truncation and 1e-10 of rounding.
  for (const e of gradCheck(c.apply, c.inputs, random).errors) expect(e).toBeLessThanOrEqual(1e-7);
  const want = run(c, "float64", cotangent);
  if (c.twice ?? true) {
    // Two ways to compute one thing: they differ by rounding.
    for (const [i, g] of run(c, "float64", cotangent, true).entries()) {
      expect(relativeError(g, want[i]!), `recorded gradient ${i}`).toBeLessThanOrEqual(1e-13);
    }
    for (const e of directionalErrors(gradients(c), [...c.inputs, cotangent])) {
      expect(e, "second derivative").toBeLessThanOrEqual(1e-6);
    }
  }
  for (const [i, y] of run(c, "float32", cotangent).entries()) {
    const limit = c.float32 ?? 1e-6;
    expect(relativeError(y, want[i]!), i ? `float32 gradient ${i}` : "float32 value").toBeLessThanOrEqual(limit);
  }
}
