import { describe, expect, test } from "vitest";
import { nn, Random, randn, scope, type Tensor } from "../../src/index.js";

type DType = "float32" | "float64";

/**
 * With few parameters the sums behind their gradients may all cancel by chance; the bound is relative to what is left, down
 * to a fifth of the size sqrt(n) that a sum of n terms mostly has: below that the statistics, from float32 data and right
 * to about 5e-8 of a standard deviation, are what the difference shows.
 */
function errorOf(got: readonly number[], want: readonly number[], terms: number): number {
  const largest = Math.max(...want.map(Math.abs), Math.sqrt(terms) / 5);
  return Math.max(...got.map((g, i) => Math.abs(g - want[i]!))) / largest;
}

const kinds: Record<string, [(channels: number, dtype: DType) => nn.Module, (channels: number) => number[]]> = {
  BatchNorm2d: [(c, dtype) => new nn.BatchNorm2d(c, { dtype }), (c) => [5, c, 21, 9]],
  "BatchNorm2d channels-last": [(c, dtype) => new nn.BatchNorm2d(c, { axis: -1, dtype }), (c) => [5, 21, 9, c]],
  BatchNorm1d: [(c, dtype) => new nn.BatchNorm1d(c, { dtype }), (c) => [1000, c]],
  GroupNorm: [(c, dtype) => new nn.GroupNorm(1, c, { dtype }), (c) => [5, c, 21, 9]],
  "GroupNorm channels-last": [(c, dtype) => new nn.GroupNorm(1, c, { axis: -1, dtype }), (c) => [5, 21, 9, c]],
  InstanceNorm2d: [(c, dtype) => new nn.InstanceNorm2d(c, { affine: true, dtype }), (c) => [5, c, 21, 9]],
  LayerNorm: [(c, dtype) => new nn.LayerNorm(c + 2, { dtype }), (c) => [1000, c + 2]],
  RMSNorm: [(c, dtype) => new nn.RMSNorm(c + 2, { eps: 1e-5, dtype }), (c) => [1000, c + 2]],
};

function affineGradients(layer: nn.Module, x: Tensor, dy: Tensor): number[][] {
  layer.forward(x);
  layer.backward(dy);
  return layer.parameters().map((p) => [...p.grad!.dataSync()]);
}

describe("gradients of few affine parameters: within 2.5e-7 of the largest", () => {
  for (const [name, [make, shapeOf]] of Object.entries(kinds)) {
    for (const mean of [0, 1e4]) {
      test(`${name}, 1 to 6 channels, mean/std ${mean}`, () => {
        const random = new Random(11);
        for (let draw = 0; draw < 60; draw++) {
          const channels = 1 + (draw % 6);
          scope(() => {
            const x = randn(shapeOf(channels), { random }).add(mean);
            const dy = randn(shapeOf(channels), { random });
            const got = affineGradients(make(channels, "float32"), x, dy);
            const want = affineGradients(make(channels, "float64"), x.cast("float64"), dy.cast("float64"));
            for (const [i, g] of got.entries()) {
              const error = errorOf(g, want[i]!, x.size / g.length);
              expect(error, `draw ${draw}, parameter ${i}`).toBeLessThanOrEqual(2.5e-7);
            }
          });
        }
      });
    }
  }
});
