import { expect, test } from "vitest";
import { normal } from "../../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../../autograd/index.js";
import { type Elements, loopback } from "../../base/communicator.js";
import { scope } from "../../memory/scope.js";
import type { Module } from "../module.js";
import {
  BatchRenorm,
  type BatchRenormOptions,
  FrozenBatchNorm,
  GhostBatchNorm,
  MaskedBatchNorm,
  MaskedGroupNorm,
  MaskedInstanceNorm,
  noStatsUpdate,
  SyncBatchNorm,
  VirtualBatchNorm,
} from "./index.js";

const dtype = "float64";
const mask = tensor([1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1], { shape: [3, 5], dtype: "int32" });

/** What a second rank sends: always the same batch, and sums without a part of its own. */
const others = normal([12], 1).dataSync();
const neighbour = {
  ...loopback,
  size: 2,
  allGather<T extends Elements>(data: T): T[] {
    const [samples, count] = [2, 7];
    const message = data.slice();
    if (message instanceof Float64Array)
      message.set([
        samples,
        count,
        ...others.slice(0, 4),
        ...others.slice(4, 8).map((v) => count * (0.5 + Math.abs(v))),
      ]);
    return [data.slice() as T, message as T];
  },
  allReduce() {},
};

const referenced = (): VirtualBatchNorm => {
  const layer = new VirtualBatchNorm(4, { dtype, eps: 1e-3 });
  layer.setReference(normal([6, 4, 3], 1));
  return layer;
};
/** Running statistics so far away that r and d are clipped, hence constant, in every channel. */
const clipped = (options: BatchRenormOptions = {}): BatchRenorm => {
  const layer = new BatchRenorm(4, { dtype, eps: 1e-3, rMax: 1.5, dMax: 0.25, ...options });
  layer.runningMean!.assign([9, -9, 9, -9]);
  layer.runningVar!.assign([0.01, 90, 0.01, 90]);
  return layer;
};

const beside = { dtype, eps: 1e-3, communicator: neighbour, normalizingVariance: "unbiased" } as const;

/** The gradient to x and to each parameter against central differences of <w, y>, w random. */
const layers: [string, Module, readonly unknown[]][] = [
  ["SyncBatchNorm beside a constant rank", new SyncBatchNorm(4, { dtype, eps: 1e-3, communicator: neighbour }), []],
  ["GhostBatchNorm", new GhostBatchNorm(4, { dtype, eps: 1e-3, virtualBatchSize: 2 }), []],
  ["BatchRenorm", clipped(), []],
  ["BatchRenorm beside a constant rank", clipped({ communicator: neighbour }), []],
  ["VirtualBatchNorm", referenced(), []],
  ["FrozenBatchNorm", new FrozenBatchNorm(4, { dtype, eps: 1e-3 }), []],
  ["MaskedBatchNorm", new MaskedBatchNorm(4, { dtype, eps: 1e-3 }), [mask]],
  ["MaskedBatchNorm, keep", new MaskedBatchNorm(4, { dtype, eps: 1e-3, padded: "keep" }), [mask]],
  ...(["zero", "keep", "normalize"] as const).map((padded): [string, Module, readonly unknown[]] => [
    `MaskedBatchNorm beside a constant rank, ${padded}`,
    new MaskedBatchNorm(4, { ...beside, padded, affineGradients: "sum" }),
    [mask],
  ]),
  ["MaskedGroupNorm", new MaskedGroupNorm(2, 4, { dtype, eps: 1e-3 }), [mask]],
  ["MaskedInstanceNorm", new MaskedInstanceNorm(4, { dtype, eps: 1e-3, affine: true }), [mask]],
];

test.each(layers)("gradients by differences: %s", (_, layer, behind) => {
  const x = normal([3, 4, 5], 1);
  const w = normal([3, 4, 5]);
  for (const p of layer.parameters()) p.assign(normal(p.shape, 1, 0.5).dataSync());
  const value = () =>
    scope(() =>
      noStatsUpdate(() => layer.forward(x, ...behind))
        .mul(w)
        .sum()
        .item(),
    );
  noStatsUpdate(() => layer.forward(x, ...behind));
  const gradients: [Tensor, Tensor][] = [[x, layer.backward(w)]];
  for (const p of layer.parameters()) gradients.push([p, p.grad!]);
  const step = 1e-5;
  for (const [of, gradient] of gradients) {
    const at = Float64Array.from(of.dataSync());
    for (const [i, v] of at.entries()) {
      const moved = (by: number) => {
        at[i] = v + by;
        of.assign(at);
        return value();
      };
      const numeric = (moved(step) - moved(-step)) / (2 * step);
      moved(0);
      const error = Math.abs(gradient.dataSync()[i]! - numeric) / Math.max(1, Math.abs(numeric));
      expect(error, `element ${i} of [${of.shape}]`).toBeLessThanOrEqual(1e-7);
    }
  }
});
