import { describe, expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { noGrad, type Tensor, tensor, zeros } from "../autograd/index.js";
import { DeviceError, DTypeError, OptionError, ShapeError, StateError } from "../base/errors.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { Linear, Sequential } from "../nn/index.js";
import { dll } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const f64 = { dtype: "float64" } as const;
const training = { training: true } as const;

function batchNorm(inputShape: number[], options?: dll.BatchNormOptions): dll.BatchNorm {
  const layer = new dll.BatchNorm(options);
  layer.initialiseLayer({ inputShape, ...f64 });
  return layer;
}

describe("BatchNorm", () => {
  test("has the original's attributes after initialiseLayer", () => {
    const layer = batchNorm([3, 4]);
    expect([layer.name, layer.epsilon, layer.patience, layer.nparams]).toEqual(["Batch normalisation", 1e-6, 0.9, 24]);
    for (const t of [layer.gamma, layer.beta, layer.runningMean, layer.runningVar]) {
      expect([t.shape, t.dtype]).toEqual([[3, 4], "float64"]);
    }
    expect(new Set(values(layer.gamma).concat(values(layer.runningVar)))).toEqual(new Set([1]));
    expect(new Set(values(layer.beta).concat(values(layer.runningMean)))).toEqual(new Set([0]));
    expect(layer.getParameters()).toEqual([layer.gamma, layer.beta]);
    expect(Object.keys(layer.stateDict())).toEqual(["gamma", "beta", "running_mean", "running_var"]);
    const plain = new dll.BatchNorm();
    plain.initialiseLayer({ inputShape: [2] });
    expect(plain.gamma.dtype).toBe("float32");
  });

  test("evaluates unless told to train, by the option or by train()", () => {
    const layer = batchNorm([4]);
    const x = normal([6, 4], 2, 3);
    const evaluated = values(layer.forward(x));
    expect(relativeError(evaluated, values(x))).toBeLessThan(1e-6);
    expect(values(layer.forward(x, { training: false }))).toEqual(evaluated);
    const trained = values(layer.forward(x, training));
    expect(trained).not.toEqual(evaluated);
    const other = batchNorm([4]);
    expect(values(other.train().forward(x))).toEqual(trained);
    expect(values(other.runningMean)).toEqual(values(layer.runningMean));
    expect(values(other.forward(x, { training: false }))).toEqual(values(layer.forward(x)));
  });

  test("gradients accumulate over steps as means over the batch", () => {
    const layer = batchNorm([3, 2]);
    const [x, dy] = [normal([5, 3, 2]), normal([5, 3, 2])];
    const xhat = values(layer.forward(x, training));
    layer.backward(dy);
    const dGamma = dy.mul(tensor(xhat, { shape: [5, 3, 2], ...f64 })).mean([0]);
    expect(relativeError(values(layer.gamma.grad), values(dGamma))).toBeLessThan(1e-14);
    expect(relativeError(values(layer.beta.grad), values(dy.mean([0])))).toBeLessThan(1e-14);
    layer.forward(x, training);
    layer.backward(dy);
    expect(relativeError(values(layer.gamma.grad), values(dGamma.mul(2)))).toBeLessThan(1e-14);
    layer.zeroGrad();
    expect(layer.gamma.grad).toBeNull();
  });

  test("backward after an evaluation is the gradient of the evaluation", () => {
    const layer = batchNorm([3]);
    layer.forward(normal([7, 3], 1, 2), training);
    layer.gamma.assign([2, -1, 0.5]);
    const [x, dy] = [normal([4, 3]), normal([4, 3])];
    layer.forward(x);
    const dx = values(layer.backward(dy));
    const rho = values(layer.runningVar).map((v) => 1 / Math.sqrt(v + 1e-6));
    const want = values(dy).map((d, i) => d * [2, -1, 0.5][i % 3]! * rho[i % 3]!);
    expect(relativeError(dx, want)).toBeLessThan(1e-14);
    expect(relativeError(values(layer.beta.grad), values(dy.mean([0])))).toBeLessThan(1e-14);
  });

  test("a batch of one raises in training alone", () => {
    const layer = batchNorm([4]);
    expect(() => layer.forward(normal([1, 4]), training)).toThrow(ShapeError);
    expect(layer.forward(normal([1, 4])).shape).toEqual([1, 4]);
    expect(layer.forward(zeros([0, 4], f64)).shape).toEqual([0, 4]);
  });

  test("assigning to gamma copies values in and keeps the parameter", () => {
    const layer = batchNorm([2]);
    const { gamma } = layer;
    (layer as { gamma: unknown }).gamma = tensor([3, 4], f64);
    expect(layer.gamma).toBe(gamma);
    expect(values(gamma)).toEqual([3, 4]);
    expect(layer.parameters()[0]).toBe(gamma);
  });

  test("a new initialiseLayer begins anew", () => {
    const layer = batchNorm([2]);
    const before = layer.gamma;
    layer.forward(normal([3, 2]), training);
    layer.initialiseLayer({ inputShape: [4, 3] });
    expect(before.disposed).toBe(true);
    expect([layer.gamma.shape, layer.runningMean.shape, layer.gamma.dtype]).toEqual([[4, 3], [4, 3], "float32"]);
    expect(layer.forward(zeros([2, 4, 3])).shape).toEqual([2, 4, 3]);
    expect(layer.parameters()).toHaveLength(2);
  });
});

test("GroupNorm, LayerNorm and InstanceNorm keep their names and count what there is", () => {
  const kinds = [new dll.GroupNorm({ numGroups: 3 }), new dll.LayerNorm(), new dll.InstanceNorm()];
  expect(kinds.map((l) => l.name)).toEqual(["Group normalisation", "Layer normalisation", "Instance normalisation"]);
  expect(new dll.GroupNorm().numGroups).toBe(32);
  for (const layer of kinds) {
    layer.initialiseLayer({ inputShape: [6, 2, 2], ...f64 });
    expect(layer.nparams).toBe(48);
    const x = normal([2, 6, 2, 2]);
    expect(values(layer.forward(x, training))).toEqual(values(layer.forward(x)));
    // A single sample has statistics of its own.
    expect(layer.forward(normal([1, 6, 2, 2]), training).shape).toEqual([1, 6, 2, 2]);
  }
  const instance = kinds[2]!;
  instance.beta.assign(normal([6, 2, 2]));
  expect(values(instance.forward(normal([3, 6, 2, 2])))).toEqual(values(instance.beta.detach().expand([3, 6, 2, 2])));
});

describe("errors", () => {
  const layers = () => [batchNorm([4]), groupNorm()];
  const groupNorm = () => {
    const layer = new dll.GroupNorm({ numGroups: 2 });
    layer.initialiseLayer({ inputShape: [4], ...f64 });
    return layer;
  };

  test("options", () => {
    for (const patience of [0, 1, -0.1, 1.5, Number.NaN, "0.9", null]) {
      expect(() => new dll.BatchNorm({ patience: patience as number }), String(patience)).toThrow(OptionError);
    }
    for (const numGroups of [0, -2, 1.5, "2", null, Number.NaN]) {
      expect(() => new dll.GroupNorm({ numGroups: numGroups as number }), String(numGroups)).toThrow(OptionError);
    }
    expect(() => new dll.BatchNorm({ patiens: 0.5 } as object)).toThrow(/Did you mean "patience"\?/);
    for (const layer of layers()) {
      for (const flag of [1, 0, "true", null]) {
        expect(() => layer.forward(normal([2, 4]), { training: flag as never }), String(flag)).toThrow(OptionError);
      }
    }
  });

  test("calls before initialiseLayer", () => {
    for (const layer of [new dll.BatchNorm(), new dll.GroupNorm(), new dll.LayerNorm(), new dll.InstanceNorm()]) {
      expect(() => layer.forward(normal([2, 4]))).toThrow(StateError);
      expect(() => layer.backward(normal([2, 4]))).toThrow(StateError);
      expect(() => layer.getParameters()).toThrow(/Begin with initialiseLayer/);
    }
  });

  test("initialiseLayer", () => {
    const layer = new dll.GroupNorm({ numGroups: 3 });
    expect(() => layer.initialiseLayer({ inputShape: [4] })).toThrow(ShapeError);
    expect(() => layer.initialiseLayer({ inputShape: 4 as never })).toThrow(ShapeError);
    expect(() => layer.initialiseLayer({ inputShape: [] })).toThrow(ShapeError);
    expect(() => layer.initialiseLayer({} as never)).toThrow(ShapeError);
    expect(() => layer.initialiseLayer({ inputShape: [3], dtype: "int32" })).toThrow(DTypeError);
    expect(() => layer.initialiseLayer({ inputShape: [3], device: "gpu" as never })).toThrow(DeviceError);
    expect(() => layer.initialiseLayer({ inputShape: [3, -1] })).toThrow(OptionError);
  });

  test("inputs and gradients", () => {
    for (const layer of layers()) {
      for (const bad of [[[1, 2, 3, 4]], 5, null, undefined, "x", new Float32Array(4)]) {
        expect(() => layer.forward(bad as never, training), String(bad)).toThrow(DTypeError);
      }
      expect(() => layer.forward(normal([2, 5]), training)).toThrow(ShapeError);
      expect(() => layer.forward(normal([2, 4, 1]))).toThrow(ShapeError);
      expect(() => layer.forward(normal([4]))).toThrow(ShapeError);
      expect(() => layer.forward(zeros([2, 4]))).toThrow(DTypeError);
      expect(() => layer.backward(normal([2, 4]))).toThrow(StateError);
      layer.forward(normal([2, 4]), training);
      expect(() => layer.backward([1] as never)).toThrow(DTypeError);
      expect(() => layer.backward(null as never)).toThrow(DTypeError);
      expect(() => layer.backward(normal([2, 3]))).toThrow(ShapeError);
      expect(layer.backward(normal([2, 4])).shape).toEqual([2, 4]);
    }
  });
});

test("in a model it follows train() and eval(), and its state goes along", () => {
  const make = () => new Sequential(new Linear(3, 4, f64), batchNorm([4]));
  const model = make().train();
  const x = normal([5, 3]);
  model.forward(x);
  model.backward(normal([5, 4]));
  expect(model.parameters().every((p) => p.grad)).toBe(true);
  const other = make();
  other.loadStateDict(model.stateDict());
  expect(values(other.eval().forward(x))).toEqual(values(model.eval().forward(x)));
});

test("steps leave the heap as they found it, and dispose gives back the rest", () => {
  const start = heap.stats.liveBytes;
  scope(() => {
    const layer = batchNorm([3, 2]);
    const step = () =>
      scope(() => {
        layer.zeroGrad();
        layer.forward(normal([4, 3, 2]), training);
        layer.backward(normal([4, 3, 2]));
        noGrad(() => layer.forward(normal([4, 3, 2])));
      });
    step();
    const before = heap.stats.liveBytes;
    for (let i = 0; i < 10; i++) step();
    expect(heap.stats.liveBytes).toBeLessThanOrEqual(before);
    layer.dispose();
  });
  expect(heap.stats.liveBytes).toBeLessThanOrEqual(start);
});
