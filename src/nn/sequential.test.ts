import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { noGrad } from "../autograd/index.js";
import { StateError } from "../base/errors.js";
import { heap } from "../memory/heap.js";
import * as nn from "./index.js";

describe("Sequential", () => {
  const build = () =>
    new nn.Sequential(new nn.Linear(4, 5), new nn.Tanh(), new nn.Sequential(new nn.Dropout(0), new nn.Linear(5, 2)));

  test("names its children by number, at any depth", () => {
    const model = build();
    expect(Object.keys(model.stateDict())).toEqual(["0.weight", "0.bias", "2.1.weight", "2.1.bias"]);
    expect(model.length).toBe(3);
    expect(model.at(-1)).toBeInstanceOf(nn.Sequential);
    expect([...model].map((m) => m.constructor.name)).toEqual(["Linear", "Tanh", "Sequential"]);
    model.append(new nn.Identity());
    expect(model.namedChildren().at(-1)![0]).toBe("3");
    expect(model.modules().length).toBe(7);
  });

  test("without a tape the peak is two neighbours, not all layers; the input and the result stay", () => {
    const model = new nn.Sequential(...Array.from({ length: 20 }, () => new nn.Tanh()));
    const x = normal([1000]);
    const before = heap.stats.liveBytes;
    heap.resetPeak();
    const y = noGrad(() => model.forward(x));
    expect(heap.stats.peakBytes - before).toBeLessThanOrEqual(2 * 8064);
    expect(heap.stats.liveBytes - before).toBeLessThanOrEqual(8064);
    expect(x.disposed || y.disposed).toBe(false);
  });

  test("an empty one, and layers that return their input, give the input back", () => {
    const x = normal([3]);
    expect(noGrad(() => new nn.Sequential().forward(x))).toBe(x);
    expect(noGrad(() => new nn.Sequential(new nn.Identity(), new nn.Dropout(0)).forward(x))).toBe(x);
    const model = new nn.Sequential(new nn.Tanh(), new nn.Identity(), new nn.Sigmoid());
    expect(model.forward(x).dataSync()).toEqual(x.tanh().sigmoid().dataSync());
  });

  test("goes back through all of it to the input", () => {
    const model = build().to("float64");
    const x = normal([3, 4]);
    const y = model.forward(x);
    const dy = normal(y.shape);
    const dx = model.backward(dy);
    const [first, second] = model.parameters().filter((p) => p.rank === 2);
    const h = x.matmul(first!, { transposeB: true }).add(model.parameters()[1]!).tanh();
    const want = dy.matmul(second!).mul(h.square().neg().add(1)).matmul(first!);
    for (const [i, v] of dx.dataSync().entries()) expect(v).toBeCloseTo(want.dataSync()[i]!, 12);
    expect(() => model.backward(dy)).toThrow(StateError);
  });

  test("refuses what is no module", () => {
    expect(() => new nn.Sequential([new nn.ReLU()] as unknown as nn.Module)).toThrow(
      /an array as argument 0.*Spread it/,
    );
  });
});

describe("Residual", () => {
  test("adds body and shortcut, with names of both", () => {
    const block = new nn.Residual(new nn.Linear(3, 2, { dtype: "float64" }), new nn.Linear(3, 2, { dtype: "float64" }));
    const x = normal([4, 3]);
    const want = block.body.forward(x).add(block.shortcut!.forward(x));
    expect(block.forward(x).dataSync()).toEqual(want.dataSync());
    expect(Object.keys(block.stateDict())).toEqual(["body.weight", "body.bias", "shortcut.weight", "shortcut.bias"]);
  });

  test("without a shortcut adds the input, whose gradient then has both parts", () => {
    const block = new nn.Residual(new nn.Tanh());
    const x = normal([5]);
    block.forward(x);
    const dy = normal([5]);
    const dx = block.backward(dy).dataSync();
    for (const [i, v] of dx.entries()) {
      const slope = 2 - Math.tanh(x.dataSync()[i]!) ** 2;
      expect(v).toBeCloseTo(slope * dy.dataSync()[i]!, 12);
    }
    expect(new nn.Residual(new nn.Identity()).forward(x).dataSync()).toEqual(x.mul(2).dataSync());
  });

  test("names both shapes when they differ", () => {
    const block = new nn.Residual(new nn.Conv2d(2, 4, 3, { dtype: "float64" }));
    expect(() => block.forward(normal([1, 2, 5, 5]))).toThrow(/\[1, 4, 3, 3\] and \[1, 2, 5, 5\].*1 x 1 convolution/);
  });
});
