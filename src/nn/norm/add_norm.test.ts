import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import { concat, grad, randn, type Tensor } from "../../autograd/index.js";
import { addNorm } from "../../autograd/ops/add_norm.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { heap } from "../../memory/heap.js";
import { scope } from "../../memory/scope.js";
import * as F from "./functional.js";
import { AddLayerNorm, type AddNormResult, AddRMSNorm, LayerNorm, RMSNorm } from "./index.js";

const random = new Random(17);
const values = (t: Tensor) => [...t.dataSync()];

normContract({
  name: "AddLayerNorm",
  make: (o) => new AddLayerNorm(4, o),
  shape: [2, 3, 4],
  state: ["weight", "bias"],
  extra: (dtype, shape) => [randn(shape, { dtype, random })],
  wrong: [2, 3, 6],
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

normContract({
  name: "AddRMSNorm",
  make: (o) => new AddRMSNorm(4, o),
  shape: [2, 3, 4],
  state: ["weight"],
  extra: (dtype, shape) => [randn(shape, { dtype, random })],
  wrong: [2, 3, 6],
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

/** y alone, the sum alone, and both: each way a gradient can come. */
const used = {
  y: ({ y }: AddNormResult) => y,
  sum: ({ sum }: AddNormResult) => sum,
  both: ({ y, sum }: AddNormResult) => concat([y.reshape([-1]), sum.reshape([-1])]),
};

checkOps(
  "add and normalize",
  Object.entries(used).flatMap(([what, of]): OpCase[] =>
    [5, 17].flatMap((size): OpCase[] => {
      const [x, residual] = [normal([3, 2, size], 0.3), normal([3, 2, size])];
      const options = { normalizedShape: [size], eps: 1e-3 };
      return [
        {
          name: `layer norm, size ${size}, ${what}`,
          inputs: [x, residual, normal([size]), normal([size])],
          apply: (x, residual, weight, bias) =>
            of(addNorm({ x: x!, residual: residual!, weight: weight!, bias: bias! }, { ...options, centred: true })),
          // The sum is rounded before its statistics are taken.
          float32: 2e-6,
        },
        {
          name: `root mean square, size ${size}, ${what}`,
          inputs: [x, residual, normal([size])],
          apply: (x, residual, weight) =>
            of(addNorm({ x: x!, residual: residual!, weight: weight!, bias: null }, { ...options, centred: false })),
          float32: 2e-6,
        },
      ];
    }),
  ),
);

describe("add and normalize", () => {
  const input = () => randn([6, 33], { random });

  test("is the layer on the sum, to the bit", () => {
    const [x, residual] = [input(), input()];
    const pairs = [
      [new AddLayerNorm(33), new LayerNorm(33)],
      [new AddLayerNorm(33, { bias: false }), new LayerNorm(33, { bias: false })],
      [new AddLayerNorm(33, { elementwiseAffine: false }), new LayerNorm(33, { elementwiseAffine: false })],
      [new AddRMSNorm(33), new RMSNorm(33)],
      [new AddRMSNorm(33, { weightOffset: 1, eps: 1e-6 }), new RMSNorm(33, { weightOffset: 1, eps: 1e-6 })],
    ] as const;
    for (const [fused, plain] of pairs) {
      for (const p of plain.parameters()) p.assign(randn(p.shape, { random }));
      fused.loadStateDict(plain.stateDict());
      const [y, sum] = fused.forwardWithSum(x, residual);
      const want = x.add(residual);
      expect(values(sum)).toEqual(values(want));
      expect(values(y)).toEqual(values(plain.forward(want)));
      expect(values(fused.forward(x, residual))).toEqual(values(y));
    }
  });

  test("a residual stream over two blocks has the gradients of the plain ops", () => {
    const [a, b, c] = [normal([4, 7]), normal([4, 7]), normal([4, 7])];
    for (const t of [a, b, c]) t.requiresGrad = true;
    const dy = normal([4, 7]);
    const fused = () => {
      const first = F.addLayerNorm(a, b, 7);
      const second = F.addRmsNorm(c.mul(first.y), first.sum, 7, { eps: 1e-5 });
      return second.y.add(second.sum);
    };
    const plain = () => {
      const first = a.add(b);
      const second = c.mul(F.layerNorm(first, 7)).add(first);
      return F.rmsNorm(second, 7, { eps: 1e-5 }).add(second);
    };
    const [got, want] = [fused, plain].map((f) => grad(f(), [a, b, c], { gradOutput: dy }));
    for (const [i, g] of got!.entries()) {
      expect(relativeError(g.dataSync(), want![i]!.dataSync())).toBeLessThanOrEqual(1e-13);
    }
  });

  test("what is kept for backward is the sum", () => {
    const [x, residual] = [randn([64, 256], { random }), randn([64, 256], { random })];
    x.requiresGrad = true;
    const layer = new AddLayerNorm(256);
    const start = heap.stats.liveBytes;
    scope(() => {
      scope(() => layer.forward(x, residual));
      // y, the sum, and two float64 statistics a row.
      expect(heap.stats.liveBytes - start).toBeLessThan(2.1 * 4 * x.size);
    });
    expect(heap.stats.liveBytes).toBe(start);
  });

  test("an empty batch", () => {
    const empty = randn([0, 4], { random });
    expect(new AddLayerNorm(4).forwardWithSum(empty, empty).map((t) => t.shape)).toEqual([
      [0, 4],
      [0, 4],
    ]);
  });

  test("a residual that does not fit", () => {
    const layer = new AddLayerNorm(4);
    const x = randn([3, 4], { random });
    expect(() => layer.forward(x, randn([4], { random }))).toThrow(ShapeError);
    expect(() => layer.forward(x, randn([4], { random }))).toThrow(/residual of x's shape \[3, 4\].*expand/);
    expect(() => layer.forward(x, randn([3, 4], { random, dtype: "float64" }))).toThrow(DTypeError);
    expect(() => F.addRmsNorm(x, x, 5)).toThrow(/normalizedShape \[5\]/);
    expect(() => F.addRmsNorm(x, x, 4, { weightOffset: Number.NaN })).toThrow(/weightOffset must be a finite number/);
  });
});
