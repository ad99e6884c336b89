import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../autograd/index.js";
import * as nn from "./index.js";

describe("MultiheadAttention", () => {
  const options = { dtype: "float64", batchFirst: true } as const;
  const layer = new nn.MultiheadAttention(6, 3, options);
  const x = normal([2, 4, 6]);

  test("isCausal is the mask of what comes later, in int32 or as infinities", () => {
    const bars = [0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    const int = tensor(bars, { shape: [4, 4], dtype: "int32" });
    const float = tensor(
      Float64Array.from(bars, (b) => (b ? Number.NEGATIVE_INFINITY : 0)),
      { shape: [4, 4] },
    );
    const want = layer.forward(x, x, x, { isCausal: true }).dataSync();
    expect(layer.forward(x, x, x, { attnMask: int }).dataSync()).toEqual(want);
    expect(layer.forward(x, x, x, { attnMask: float }).dataSync()).toEqual(want);
    // What a query must not see does not reach it.
    const changed = x.add(tensor([0, 0, 0, 1], { dtype: "float64" }).reshape([1, 4, 1]));
    const again = layer.forward(changed, changed, changed, { isCausal: true }).slice([0, 0, 0], [2, 3, 6]);
    const head = layer.forward(x, x, x, { isCausal: true }).slice([0, 0, 0], [2, 3, 6]);
    expect(again.dataSync()).toEqual(head.dataSync());
  });

  test("weights sum to 1, are 0 at padding, and their head mean is what attend shows", () => {
    const keyPaddingMask = tensor([0, 0, 0, 1, 0, 0, 1, 1], { shape: [2, 4], dtype: "int32" });
    const { output, weights } = layer.attend(x, x, x, { keyPaddingMask });
    expect(output.dataSync()).toEqual(layer.forward(x, x, x, { keyPaddingMask }).dataSync());
    expect(weights.shape).toEqual([2, 4, 4]);
    for (const s of weights.sum(-1).dataSync()) expect(s).toBeCloseTo(1, 12);
    expect(Math.max(...weights.slice([0, 0, 3]).dataSync())).toBe(0);
    const each = layer.attend(x, x, x, { keyPaddingMask, averageWeights: false }).weights;
    expect(each.shape).toEqual([2, 3, 4, 4]);
    expect(each.mean(1).dataSync()).toEqual(weights.dataSync());
  });

  test("self-attention by one product is attention with three, and backward gives the whole gradient", () => {
    const joint = layer.forward(x, x, x);
    const dy = normal(joint.shape);
    const dx = layer.backward(dy);
    const apart = [x, x.mul(1), x.mul(1)].map((t) => t.detach());
    for (const t of apart) t.requiresGrad = true;
    const y = layer.forward(...(apart as [Tensor, Tensor, Tensor]));
    for (const [i, v] of y.dataSync().entries()) expect(v).toBeCloseTo(joint.dataSync()[i]!, 12);
    y.backward(dy);
    const sum = apart.map((t) => t.grad!).reduce((a, b) => a.add(b));
    for (const [i, v] of dx.dataSync().entries()) expect(v).toBeCloseTo(sum.dataSync()[i]!, 12);
  });

  test("dropout acts on the weights in training alone", () => {
    const dropping = new nn.MultiheadAttention(6, 3, { ...options, dropout: 0.5 });
    const weights = () => dropping.attend(x, x, x, { averageWeights: false }).weights;
    const kept = weights().dataSync();
    expect(kept.filter((v) => v === 0).length).toBeGreaterThan(10);
    dropping.eval();
    expect(
      weights()
        .dataSync()
        .filter((v) => v === 0).length,
    ).toBe(0);
  });

  test.each([
    [
      "features",
      () => layer.forward(x, x, normal([2, 4, 5])),
      /6, 6 and 6 features.*\[2, 4, 6\], \[2, 4, 6\], \[2, 4, 5\]/,
    ],
    ["lengths", () => layer.forward(x, x, normal([2, 3, 6])), /as many values as keys/],
    ["batch", () => layer.forward(x, normal([1, 4, 6]), normal([1, 4, 6])), /one N/],
    ["padding mask", () => layer.forward(x, x, x, { keyPaddingMask: normal([4, 2]) }), /shape \[2, 4\]; got \[4, 2\]/],
    [
      "pair mask",
      () => layer.forward(x, x, x, { attnMask: normal([2, 4, 4]) }),
      /\[4, 4\] or \[6, 4, 4\]; got \[2, 4, 4\]/,
    ],
    ["option", () => layer.forward(x, x, x, { attMask: null } as object), /Did you mean "attnMask"/],
  ])("names unfit %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
