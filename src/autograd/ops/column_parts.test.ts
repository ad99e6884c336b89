import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { checkOps, normal, positive } from "../../../tests/conformance/op_harness.js";
import type { ColumnView } from "../../norm/views.js";
import { grad, tensor } from "../index.js";
import { batchNorm } from "./batch_norm.js";
import { columnMoments, type Gathering, normalizeAmong, standardize } from "./column_parts.js";

const views: ColumnView[] = [
  { batch: 1, outer: 3, channels: 5, inner: 7, merge: 1 },
  { batch: 2, outer: 4, channels: 6, inner: 1, merge: 3 },
  { batch: 3, outer: 1, channels: 4, inner: 9, merge: 2 },
];
const shapeOf = ({ batch, outer, channels, inner }: ColumnView) => [batch, outer, channels, inner];
const countOf = ({ batch, channels, merge }: ColumnView) => (batch * channels) / merge;
const name = (v: ColumnView) => `[${shapeOf(v)}], merge ${v.merge}`;

checkOps(
  "column moments",
  views.map((view) => ({
    name: name(view),
    inputs: [normal(shapeOf(view), 1)],
    apply: (x) => columnMoments({ x: x! }, { view }).cast(x!.dtype),
  })),
);

checkOps(
  "standardize",
  views.flatMap((view) => [
    {
      name: name(view),
      inputs: [
        normal(shapeOf(view)),
        normal([countOf(view)]),
        positive([countOf(view)]),
        normal([view.channels]),
        normal([view.channels]),
      ],
      apply: (x, mean, variance, weight, bias) =>
        standardize(
          { x: x!, mean: mean!.cast("float64"), variance: variance!.cast("float64"), weight: weight!, bias: bias! },
          { view, eps: 1e-3 },
        ),
    },
    {
      name: `${name(view)}, own statistics, no affine`,
      inputs: [normal(shapeOf(view), 2)],
      apply: (x) => {
        const stats = columnMoments({ x: x! }, { view });
        const [mean, variance] = [stats.narrow(0, 0, 1).reshape([-1]), stats.narrow(0, 1, 1).reshape([-1])];
        return standardize({ x: x!, mean, variance, weight: null, bias: null }, { view, eps: 1e-3 });
      },
    },
  ]),
);

describe("normalizeAmong", () => {
  /** A batch cut in two: each half has the statistics of both, and adds the other's sums. */
  test("two holders compute what one does with the joined batch", () => {
    const view = { batch: 1, outer: 6, channels: 3, inner: 4, merge: 1 };
    const [x, dy] = [normal([6, 3, 4], 2), normal([6, 3, 4])];
    const [weight, bias] = [normal([3]), normal([3])];
    for (const t of [x, weight, bias]) t.requiresGrad = true;
    const { out, extra } = batchNorm({ x, weight, bias }, { axis: 1, eps: 1e-5 });
    const want = grad(out, [x, weight, bias], { gradOutput: dy });

    const sums: number[][] = [];
    const counts = tensor([24, 24, 24], { dtype: "float64" });
    const run = (from: number, length: number, add: Gathering["add"]) => {
      const part = x.detach().narrow(0, from, length).detach();
      part.requiresGrad = true;
      const inputs = { x: part, weight, bias, mean: extra.mean!, variance: extra.variance, counts };
      const gather = { add, affine: null };
      const y = normalizeAmong(inputs, { view: { ...view, outer: length }, eps: 1e-5, gather });
      return [y, ...grad(y, [part, weight, bias], { gradOutput: dy.narrow(0, from, length) })];
    };
    // First each one's own sums are noted, then they are added up.
    const note = (own: Float64Array) => sums.push([...own]);
    run(0, 2, note);
    run(2, 4, note);
    const all = (own: Float64Array) => own.set(own.map((_, i) => sums[0]![i]! + sums[1]![i]!));
    const [a, b] = [run(0, 2, all), run(2, 4, all)];
    const joined = (i: number) => [...a[i]!.dataSync(), ...b[i]!.dataSync()];
    expect(relativeError(joined(0), out.dataSync())).toBeLessThanOrEqual(1e-14);
    expect(relativeError(joined(1), want[0]!.dataSync())).toBeLessThanOrEqual(1e-13);
    for (const i of [2, 3]) {
      const sum = a[i]!.add(b[i]!).dataSync();
      expect(relativeError(sum, want[i - 1]!.dataSync())).toBeLessThanOrEqual(1e-13);
    }
  });
});
