import { describe, expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { noGrad, type Tensor, zeros } from "../autograd/index.js";
import { DTypeError, FormatError, OptionError, ShapeError, StateError } from "../base/errors.js";
import { manualSeed } from "../base/random.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { Linear, Sequential } from "../nn/index.js";
import { puzzlelib } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const f64 = { dtype: "float64" } as const;
const { BatchNorm, BatchNorm1D, BatchNorm2D, BatchNorm3D, BatchNormND } = puzzlelib;

test("defaults, attributes and state", () => {
  const bn = new BatchNorm2D(3, { name: "first" });
  expect([bn.name, bn.maps, bn.epsilon, bn.initFactor, bn.minFactor]).toEqual(["first", 3, 1e-5, 1, 0.1]);
  expect([bn.affine, bn.inplace, new BatchNorm(4).name, new BatchNorm(4).size]).toEqual([true, false, null, 4]);
  expect([values(bn.bias), values(bn.mean), values(bn.var)]).toEqual([
    [0, 0, 0],
    [0, 0, 0],
    [1, 1, 1],
  ]);
  expect([bn.data, bn.grad, bn.numOfProps.item()]).toEqual([null, null, 0]);
  expect(Object.keys(bn.stateDict())).toEqual(["scale", "bias", "mean", "var", "num_of_props"]);
  expect(bn.parameters()).toEqual([bn.scale, bn.bias]);
});

test("scales are drawn from N(1, sscale) by the seeded generator", () => {
  manualSeed(5);
  const drawn = values(new BatchNorm(4000, { sscale: 0.25, ...f64 }).scale);
  const mean = drawn.reduce((s, v) => s + v / 4000, 0);
  const std = Math.sqrt(drawn.reduce((s, v) => s + (v - mean) ** 2 / 4000, 0));
  // Four standard errors.
  expect(Math.abs(mean - 1)).toBeLessThan((4 * 0.25) / Math.sqrt(4000));
  expect(Math.abs(std / 0.25 - 1)).toBeLessThan(4 / Math.sqrt(8000));
  manualSeed(5);
  expect(values(new BatchNorm(4000, { sscale: 0.25, ...f64 }).scale)).toEqual(drawn);
  expect(values(new BatchNorm(3, { sscale: 0 }).scale)).toEqual([1, 1, 1]);
  const spread = values(new BatchNorm(1000).scale).map((v) => Math.abs(v - 1));
  expect(Math.max(...spread)).toBeLessThan(0.05);
});

test("the n-th batch weighs max(initFactor / n, minFactor), and n survives saving", () => {
  const options = { initFactor: 0.8, minFactor: 0.3, ...f64 };
  let bn = new BatchNorm1D(2, options);
  let mean = [0, 0];
  let variance = [1, 1];
  for (const factor of [0.8, 0.4, 0.3, 0.3]) {
    const x = normal([4, 2, 3], 5, 2);
    bn.forward(x);
    mean = values(x.mean([0, 2])).map((v, c) => (1 - factor) * mean[c]! + factor * v);
    variance = values(x.variance([0, 2])).map((v, c) => (1 - factor) * variance[c]! + factor * v);
    expect(relativeError(values(bn.mean), mean)).toBeLessThan(1e-14);
    expect(relativeError(values(bn.var), variance)).toBeLessThan(1e-14);
    const next = new BatchNorm1D(2, options);
    next.loadStateDict(bn.stateDict());
    expect(next.numOfProps.item()).toBe(bn.numOfProps.item());
    bn = next;
  }
});

test("the first input tells the type, unless dtype does", () => {
  for (const dtype of ["float32", "float64"] as const) {
    const bn = new BatchNorm(2);
    bn.scale.assign([0.1, 0.2]);
    expect(bn.forward(normal([4, 2]).to(dtype)).dtype).toBe(dtype);
    expect([bn.scale.dtype, bn.var.dtype]).toEqual([dtype, dtype]);
    expect(values(bn.scale)[0]).toBe(dtype === "float64" ? 0.1 : Math.fround(0.1));
    expect(() => bn.forward(normal([4, 2]).to(dtype === "float32" ? "float64" : "float32"))).toThrow(DTypeError);
  }
  expect(() => new BatchNorm(2, { dtype: "float32" }).forward(normal([4, 2]))).toThrow(DTypeError);
});

test("data and grad are what the last calls gave, out of any scope", () => {
  const bn = new BatchNorm2D(2, f64);
  const [x, dy] = [normal([3, 2, 2, 2]), normal([3, 2, 2, 2])];
  const [y, dx] = scope(() => {
    const out = values(bn.forward(x));
    return [out, values(bn.backward(dy))];
  });
  expect(values(bn.data)).toEqual(y);
  expect(values(bn.grad)).toEqual(dx);
  const before = bn.data!;
  bn.evalMode().forward(x);
  expect(before.disposed).toBe(true);
  expect(values(bn.data)).not.toEqual(y);
  expect(bn.trainMode().training).toBe(true);
});

test("gradients of scale and bias are sums that accumulate, also after an evaluation", () => {
  const bn = new BatchNorm(3, f64);
  const [x, dy] = [normal([6, 3]), normal([6, 3])];
  bn.forward(x);
  bn.backward(dy);
  expect(relativeError(values((bn.bias as Tensor).grad), values(dy.sum([0])))).toBeLessThan(1e-14);
  bn.eval().forward(x);
  const dx = values(bn.backward(dy));
  expect(relativeError(values(bn.bias.grad), values(dy.sum([0]).mul(2)))).toBeLessThan(1e-14);
  const want = values(dy).map((d, i) => (d * values(bn.scale)[i % 3]!) / Math.sqrt(values(bn.var)[i % 3]! + 1e-5));
  expect(relativeError(dx, want)).toBeLessThan(1e-14);
});

test("affine: false fixes scale to 1 and bias to 0, outside the state", () => {
  const bn = new BatchNorm2D(2, { affine: false, ...f64 });
  expect([values(bn.scale), values(bn.bias), bn.scale.dtype]).toEqual([[1, 1], [0, 0], "float64"]);
  expect(bn.parameters()).toEqual([]);
  expect(Object.keys(bn.stateDict())).toEqual(["mean", "var", "num_of_props"]);
  for (const v of values(bn.forward(normal([5, 2, 2, 2], 3, 2)).mean([0, 2, 3]))) expect(v).toBeCloseTo(0, 12);
});

describe("empty", () => {
  test("waits for a state, alone or in a model", () => {
    const full = new BatchNorm(3, f64);
    full.forward(normal([5, 3]));
    const empty = new BatchNorm(3, { empty: true, ...f64 });
    expect(() => empty.forward(normal([5, 3]))).toThrow(StateError);
    expect(() => empty.eval().forward(normal([5, 3]))).toThrow(/Use loadStateDict first/);
    empty.loadStateDict(full.stateDict());
    const x = normal([5, 3]);
    expect(values(empty.eval().forward(x))).toEqual(values(full.eval().forward(x)));
    expect(empty.numOfProps.item()).toBe(1);
    const make = (options: object) => new Sequential(new Linear(3, 3, f64), new BatchNorm(3, { ...f64, ...options }));
    const [first, second] = [make({}), make({ empty: true })];
    expect(() => second.forward(x)).toThrow(StateError);
    second.loadStateDict(first.stateDict());
    expect(values(second.forward(x))).toEqual(values(first.forward(x)));
  });

  test("a state that lacks something is not enough", () => {
    const empty = new BatchNorm(2, { empty: true });
    const { scale: _, ...rest } = new BatchNorm(2).stateDict();
    expect(() => empty.loadStateDict(rest)).toThrow(FormatError);
    empty.loadStateDict(rest, { strict: false });
    expect(() => empty.forward(zeros([4, 2]))).toThrow(StateError);
  });
});

describe("inplace", () => {
  test("writes the output over the input, in evaluation", () => {
    const bn = new BatchNorm2D(2, { inplace: true, ...f64 });
    const other = new BatchNorm2D(2, f64);
    other.loadStateDict(bn.stateDict());
    other.forward(normal([3, 2, 2, 2], 2, 3));
    bn.loadStateDict(other.stateDict());
    const x = normal([4, 2, 2, 2]);
    const want = values(other.eval().forward(x));
    bn.eval();
    const y = noGrad(() => bn.forward(x));
    expect(values(y)).toEqual(want);
    expect(values(x)).toEqual(want);
    expect(y.storage.ptr).toBe(x.storage.ptr);
    expect(values(bn.data)).toEqual(want);
  });

  test("goes back like an evaluation with an output of its own", () => {
    const [bn, other] = [new BatchNorm(3, { inplace: true, ...f64 }), new BatchNorm(3, f64)];
    bn.loadStateDict(other.stateDict());
    const [x, dy] = [normal([4, 3]), normal([4, 3])];
    other.eval().forward(x);
    const dx = values(other.backward(dy));
    bn.eval().forward(x);
    expect(relativeError(values(bn.backward(dy)), dx)).toBeLessThan(1e-14);
    expect(relativeError(values(bn.scale.grad), values(other.scale.grad))).toBeLessThan(1e-13);
    expect(relativeError(values(bn.bias.grad), values(other.bias.grad))).toBeLessThan(1e-14);
  });

  test("in training, or for an input whose gradient is asked for, it raises", () => {
    const bn = new BatchNorm(2, { inplace: true, ...f64 });
    const x = normal([4, 2]);
    const before = values(x);
    expect(() => bn.forward(x)).toThrow(StateError);
    expect(bn.numOfProps.item()).toBe(0);
    x.requiresGrad = true;
    expect(() => bn.eval().forward(x)).toThrow(StateError);
    expect(values(x)).toEqual(before);
    expect(() => bn.forward(normal([4, 3]))).toThrow(ShapeError);
  });
});

test("errors", () => {
  const kinds = [
    [new BatchNorm(2, f64), [4, 2]],
    [new BatchNorm1D(2, f64), [4, 2, 3]],
    [new BatchNorm2D(2, f64), [4, 2, 3, 1]],
    [new BatchNorm3D(2, f64), [4, 2, 1, 3, 2]],
    [new BatchNormND(2, 2, f64), [4, 2, 3, 1]],
  ] as const;
  for (const [bn, shape] of kinds) {
    expect(bn.forward(normal([...shape])).shape).toEqual(shape);
    expect(() => bn.backward([1] as never)).toThrow(DTypeError);
    expect(() => bn.forward(normal([...shape, 1]))).toThrow(ShapeError);
    expect(() => bn.forward(normal([4, 3, ...shape.slice(2)]))).toThrow(ShapeError);
    expect(() => bn.forward(5 as never)).toThrow(DTypeError);
    expect(() => bn.forward(zeros([...shape]))).toThrow(DTypeError);
  }
  expect(() => new BatchNorm(2, f64).forward(normal([1, 2]))).toThrow(ShapeError);
  const bad = [
    ...[{ epsilon: -1 }, { initFactor: 2 }, { minFactor: -0.1 }, { sscale: -1 }, { affine: 1 }, { empty: 0 }],
    ...[{ inplace: "yes" }, { eps: 1e-5 }],
  ];
  for (const options of bad) expect(() => new BatchNorm(2, options as never)).toThrow(OptionError);
  expect(() => new BatchNorm2D(0)).toThrow(OptionError);
  expect(() => new BatchNormND(1.5, 2)).toThrow(OptionError);
  expect(() =>
    new BatchNorm2D(2).loadStateDict({ ...new BatchNorm2D(2).stateDict(), var: { shape: [2], data: [1, -1] } }),
  ).toThrow(FormatError);
});

test("steps leave the heap as they found it, and dispose gives back the rest", () => {
  const start = heap.stats.liveBytes;
  scope(() => {
    const bn = new BatchNorm(3);
    const step = () =>
      scope(() => {
        bn.zeroGrad();
        bn.forward(normal([4, 3]).to("float32"));
        bn.backward(normal([4, 3]).to("float32"));
      });
    step();
    const before = heap.stats.liveBytes;
    for (let i = 0; i < 10; i++) step();
    expect(heap.stats.liveBytes).toBeLessThanOrEqual(before);
    bn.dispose();
  });
  expect(heap.stats.liveBytes).toBeLessThanOrEqual(start);
});
