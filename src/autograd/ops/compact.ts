import type { NumberArray } from "../../base/dtype.js";
import { kernels } from "../../kernels/dispatch.js";
import type { CompactPlan } from "../../norm/mask.js";
import { zeros } from "../create.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

/** From here on a block copy beats a loop over the elements. */
const BLOCK = 32;

function copyRun(from: NumberArray, at: number, to: NumberArray, put: number, length: number): void {
  if (length >= BLOCK) to.set(from.subarray(at, at + length), put);
  else for (let i = 0; i < length; i++) to[put + i] = from[at + i]!;
}

/** Copies every run from x to the compact array, or back. */
function copyRuns({ runs, channels }: CompactPlan, x: NumberArray, compact: NumberArray, back: boolean): void {
  for (let r = 0; r < runs.length; r += 5) {
    const length = runs[r + 2]!;
    for (let c = 0; c < channels; c++) {
      const inX = runs[r]! + c * runs[r + 3]!;
      const inCompact = runs[r + 1]! + c * runs[r + 4]!;
      if (back) copyRun(compact, inCompact, x, inX, length);
      else copyRun(x, inX, compact, inCompact, length);
    }
  }
}

/**
 * The values of x at valid positions, close together, as norm/mask.ts says. Its transpose puts them back, 0 elsewhere.
 *
 * Shapes: x of plan.shape; the result [plan.size]. Saves nothing.
 */
export const takeValid: Op<{ x: Tensor }, CompactPlan, undefined> = defineOp<{ x: Tensor }, CompactPlan>({
  name: "take_valid",
  forward({ x }, plan) {
    const out = Tensor.empty([plan.size], x.dtype);
    copyRuns(plan, x.storage.view, out.storage.view, false);
    return { out };
  },
  backward: (dy, _, plan) => ({ x: () => putValid({ values: dy, base: null }, plan) }),
  twiceDifferentiable: true,
});

/**
 * The other way: values at the valid positions, `base` (0 without one) at all others, whatever it holds at the valid ones.
 *
 * Shapes: values [plan.size], base and the result of plan.shape. Saves nothing.
 */
export const putValid: Op<{ values: Tensor; base: Tensor | null }, CompactPlan, undefined> = defineOp<
  { values: Tensor; base: Tensor | null },
  CompactPlan
>({
  name: "put_valid",
  forward({ values, base }, plan) {
    const out = Tensor.empty(plan.shape, values.dtype);
    if (base) kernels.cast(base.storage, out.storage);
    else if (plan.size < out.size) kernels.fill(out.storage, 0);
    copyRuns(plan, out.storage.view, values.storage.view, true);
    return { out };
  },
  backward: (dy, _, plan) => ({
    values: () => takeValid({ x: dy }, plan),
    base: () => putValid({ values: zeros([plan.size], { dtype: dy.dtype }), base: dy }, plan),
  }),
  twiceDifferentiable: true,
});
