import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import type { DType } from "../../base/dtype.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { gradCheck } from "../grad_check.js";
import { grad, randn, type Tensor } from "../index.js";
import { batchNorm, batchNormEval } from "./batch_norm.js";
import type { NormInputs } from "./fused_norm.js";
import { groupNorm } from "./group_norm.js";
import { instanceNorm } from "./instance_norm.js";
import { layerNorm } from "./layer_norm.js";
import { rmsNorm } from "./rms_norm.js";

const eps = 1e-3;
const random = new Random(23);
const normal = (shape: Shape, dtype: DType = "float64") => randn(shape, { dtype, random });

interface Case {
  readonly name: string;
  readonly shape: Shape;
  readonly affineShape: Shape;
  readonly apply: (inputs: NormInputs) => Tensor;
}

const given = (channels: number, mean = 0) => ({
  mean: normal([channels]).add(mean).detach(),
  variance: normal([channels]).square().add(0.5).detach(),
});

/** `scale` makes statistics of more values, for the tests of accuracy; gradient checks want few. */
function cases(scale: number, mean = 0): Case[] {
  const [n, s] = [4 * scale, 3 * scale];
  const [three, five] = [given(3, mean), given(5, mean)];
  const rows: [string, Shape, Shape, Case["apply"]][] = [
    ["batch_norm", [n, 3], [3], (i) => batchNorm(i, { axis: 1, eps }).out],
    ["batch_norm, space", [3, 2, s], [2], (i) => batchNorm(i, { axis: 1, eps }).out],
    ["batch_norm, channels last", [2, s, 3], [3], (i) => batchNorm(i, { axis: -1, eps }).out],
    ["batch_norm_eval", [n, 3, 2], [3], (i) => batchNormEval(i, three, { axis: 1, eps })],
    ["batch_norm_eval, channels last", [n, 5], [5], (i) => batchNormEval(i, five, { axis: -1, eps })],
    ["group_norm", [2, 4, s], [4], (i) => groupNorm(i, { groups: 2, axis: 1, eps })],
    ["group_norm, merge 2", [2, s, 4], [4], (i) => groupNorm(i, { groups: 2, axis: -1, eps })],
    ["group_norm, merge 3, inner 2", [1, s, 6, 2], [6], (i) => groupNorm(i, { groups: 2, axis: 2, eps })],
    ["instance_norm", [2, 3, s], [3], (i) => instanceNorm(i, { axis: 1, eps, tracked: false }).out],
    ["instance_norm, channels last", [2, s, 2], [2], (i) => instanceNorm(i, { axis: -1, eps, tracked: false }).out],
    ["layer_norm", [2, n], [n], (i) => layerNorm(i, { normalizedShape: [n], eps })],
    ["layer_norm, two axes", [2, 2, s], [2, s], (i) => layerNorm(i, { normalizedShape: [2, s], eps })],
    ["rms_norm", [2, n], [n], ({ x, weight }) => rmsNorm({ x, weight }, { normalizedShape: [n], eps })],
  ];
  return rows.map(([name, shape, affineShape, apply]) => ({ name, shape, affineShape, apply }));
}

describe.each(cases(1))("$name", ({ shape, affineShape, apply }) => {
  const x = () => normal(shape).mul(1.5).add(1).detach();
  const affine = { none: [], weight: [normal(affineShape)] };

  test.each(["none", "weight"] as const)("second derivatives in x, dy, weight; affine: %s", (which) => {
    const directions = [normal(shape), normal(affineShape)];
    const { errors } = gradCheck(
      (xi, dy, weight) => {
        const wanted = weight ? [xi!, weight] : [xi!];
        const y = apply({ x: xi!, weight: weight ?? null, bias: null });
        const first = grad(y, wanted, { gradOutput: dy!, createGraph: true });
        return first.map((g, i) => g.mul(directions[i]!).sum()).reduce((a, b) => a.add(b));
      },
      [x(), normal(shape), ...affine[which]],
      random,
    );
    // Central differences of a first derivative, in float64 with a step of 1e-5.
    for (const e of errors) expect(e).toBeLessThanOrEqual(1e-7);
  });

  test("third derivatives, mixed in x and weight", () => {
    const [dy, u, v] = [normal(shape), normal(shape), normal(affineShape)];
    const { errors } = gradCheck(
      (xi, weight) => {
        const y = apply({ x: xi!, weight: weight!, bias: null });
        const [dx, dw] = grad(y, [xi!, weight!], { gradOutput: dy, createGraph: true });
        const mixed = dx!.mul(u).sum().add(dw!.mul(v).sum());
        return grad(mixed, xi!, { createGraph: true });
      },
      [x(), ...affine.weight],
      random,
    );
    for (const e of errors) expect(e).toBeLessThanOrEqual(1e-6);
  });
});

describe("float32 against float64 on the same input", () => {
  for (const mean of [0, 1e4]) {
    test.each(cases(8, mean))(`$name, mean ${mean} standard deviations`, ({ shape, affineShape, apply }) => {
      const numbers = [normal(shape).add(mean), normal(affineShape), normal(shape), normal(shape), normal(affineShape)];
      const inputs = numbers.map((t) => t.to("float32").detach());
      const outcome = (dtype: DType) => {
        const [x, weight, dy, u, v] = inputs.map((t) => t.to(dtype).detach()) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        for (const t of [x, weight, dy]) t.requiresGrad = true;
        const y = apply({ x, weight, bias: null });
        const [dx, dw] = grad(y, [x, weight], { gradOutput: dy, createGraph: true });
        const second = grad(dx!.mul(u).sum().add(dw!.mul(v).sum()), [x, weight, dy]);
        return [dx!, dw!, ...second].map((t) => t.dataSync());
      };
      const want = outcome("float64");
      // Sums of up to 100 products of float32 factors; a mean taken away in one part gives 5e-4.
      for (const [i, got] of outcome("float32").entries())
        expect(relativeError(got, want[i]!)).toBeLessThanOrEqual(1e-6);
    });
  }
});
