import type { Random } from "../base/random.js";
import { scope } from "../memory/scope.js";
import { grad, randn, tensor } from "./index.js";
import type { Tensor } from "./tensor.js";

export interface GradCheck {
  /** Largest difference over max(1, |numeric|), for each input. */
  readonly errors: number[];
}

/**
 * Compares the gradients of `f` with central differences. All inputs are float64; the cotangent is random, never ones:
 * a plain sum hides errors (behind a normalization its gradient is 0 whatever the code does).
 */
export function gradCheck(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  random: Random,
  step = 1e-5,
): GradCheck {
  return scope(() => {
    const values = inputs.map((t) => Float64Array.from(t.dataSync()));
    const make = () =>
      inputs.map((t, i) => tensor(values[i]!, { shape: t.shape, dtype: "float64", requiresGrad: true }));
    const first = make();
    const y = f(...first);
    const cotangent = randn(y.shape, { dtype: "float64", random });
    const weights = Float64Array.from(cotangent.dataSync());
    const analytic = grad(y, first, { gradOutput: cotangent }).map((g) => g.dataSync());
    const value = () =>
      scope(() => {
        const out = f(...make()).dataSync();
        return weights.reduce((sum: number, w: number, i: number) => sum + w * out[i]!, 0);
      });
    const errors = values.map((x, which) => {
      let worst = 0;
      for (let i = 0; i < x.length; i++) {
        const at = x[i]!;
        const h = step * Math.max(1, Math.abs(at));
        x[i] = at + h;
        const up = value();
        x[i] = at - h;
        const down = value();
        x[i] = at;
        const numeric = (up - down) / (2 * h);
        const error = Math.abs(analytic[which]![i]! - numeric) / Math.max(1, Math.abs(numeric));
        if (!(error <= worst)) worst = error;
      }
      return worst;
    });
    return { errors };
  });
}
