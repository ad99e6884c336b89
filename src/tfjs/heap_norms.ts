import { enableGrad, grad, type Tensor } from "../autograd/index.js";
import { columnMoments, standardize } from "../autograd/ops/column_parts.js";
import { takeValid } from "../autograd/ops/compact.js";
import { defineNorm, fusedGradients, type NormInputs, type NormStatistics } from "../autograd/ops/fused_norm.js";
import { compactBatch } from "../norm/mask.js";
import { batchView } from "../norm/views.js";
import type { NormPlan } from "./plan.js";

/** A normalization on tensors of the heap, forward and backward apart: nothing but the statistics passes between them. */
export interface HeapNorm {
  /** `given`: statistics to use instead of x's own. */
  forward(
    inputs: NormInputs,
    given: NormStatistics | null,
  ): { readonly out: Tensor; readonly statistics: NormStatistics };
  /** To x, weight and bias; null where there is none. */
  backward(dy: Tensor, inputs: NormInputs, statistics: NormStatistics): readonly (Tensor | null)[];
}

const op = defineNorm("tfjs_norm");

/** One kernel call each way. `frozen`: statistics are given, and constants. */
export function fusedNorm(plan: NormPlan, frozen: boolean): HeapNorm {
  const options = (statistics: NormStatistics | null) =>
    frozen ? { ...plan, given: { mean: statistics!.mean!, variance: statistics!.variance } } : plan;
  return {
    forward(inputs, given) {
      const { out, extra } = op.run(inputs, options(given));
      return { out, statistics: extra };
    },
    backward(dy, inputs, statistics) {
      const needs = { x: true, weight: inputs.weight !== null, bias: inputs.bias !== null };
      const { dx, dWeight, dBias } = fusedGradients(dy, { ...inputs, ...statistics }, options(statistics), needs);
      return [dx, dWeight, dBias];
    },
  };
}

/**
 * Batch normalization with the statistics of the positions where `valid` is 1, which are x's places without the channel
 * axis; the others are normalized by them too. Backward runs forward again, on the tape.
 */
export function maskedNorm(valid: Uint8Array, axis: number, eps: number): HeapNorm {
  const run = ({ x, weight, bias }: NormInputs) => {
    const channels = x.shape[axis]!;
    const { plan, count } = compactBatch(valid, x.shape, axis);
    const shape = plan.last ? [count, channels] : [channels, count];
    const values = takeValid({ x }, plan).reshape(shape);
    const moments = columnMoments({ x: values }, { view: batchView(shape, plan.last ? 1 : 0).view });
    const [mean, variance] = [0, 1].map((i) => moments.narrow(0, i, 1).reshape([channels])) as [Tensor, Tensor];
    const out = standardize({ x, mean, variance, weight, bias }, { view: batchView(x.shape, axis).view, eps });
    return { out, statistics: { mean, variance } };
  };
  return {
    forward: run,
    backward(dy, inputs) {
      const leaves = [inputs.x, inputs.weight, inputs.bias];
      const present = leaves.filter((t) => t !== null);
      for (const t of present) t.requiresGrad = true;
      const made = enableGrad(() => grad(run(inputs).out, present, { gradOutput: dy }));
      return leaves.map((t) => t && made.shift()!);
    },
  };
}
