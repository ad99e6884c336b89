import { describe, expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { gradCheck } from "../autograd/grad_check.js";
import { grad, type Tensor, tensor, zeros } from "../autograd/index.js";
import { DTypeError, OptionError, ShapeError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { scope } from "../memory/scope.js";
import { mygrad } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const f64 = { dtype: "float64" } as const;
const { batchnorm } = mygrad;

function leaf(shape: number[]): Tensor {
  const t = normal(shape, 1, 2);
  t.requiresGrad = true;
  return t;
}

const check = (f: (...inputs: Tensor[]) => Tensor, inputs: Tensor[]) =>
  expect(Math.max(...gradCheck(f, inputs, new Random(3)).errors)).toBeLessThan(1e-8);

test("the page's example", () => {
  const y = batchnorm([[1], [4], [1]], { eps: 0 });
  expect([y.shape, y.dtype]).toEqual([[3, 1], "float64"]);
  expect(relativeError(values(y), [-Math.SQRT1_2, Math.SQRT2, -Math.SQRT1_2])).toBeLessThan(1e-15);
});

describe("gradients", () => {
  for (const shape of [
    [5, 3],
    [4, 2, 3],
    [3, 2, 2, 3],
    [2, 2, 2, 3, 1],
  ]) {
    for (const [withGamma, withBeta] of [
      [true, true],
      [true, false],
      [false, true],
      [false, false],
    ]) {
      test(`on [${shape}]${withGamma ? ", gamma" : ""}${withBeta ? ", beta" : ""}`, () => {
        const c = shape[1]!;
        const inputs = [leaf(shape), ...(withGamma ? [leaf([c])] : []), ...(withBeta ? [leaf([c])] : [])];
        const run = (x: Tensor, ...rest: Tensor[]) =>
          batchnorm(x, { eps: 1e-3, gamma: withGamma ? rest[0]! : null, beta: withBeta ? rest.at(-1)! : null });
        check(run, inputs);
      });
    }
  }

  test("second derivatives", () => {
    const [x, gamma] = [leaf([5, 3]), leaf([3])];
    const dy = normal([5, 3]);
    check(
      (x, gamma) => {
        const y = batchnorm(x, { gamma, eps: 1e-3 });
        return grad(y, x, { gradOutput: dy, createGraph: true });
      },
      [x, gamma],
    );
  });

  test("constant stops them, and no input asks for none", () => {
    const x = leaf([4, 2]);
    expect(batchnorm(x, { eps: 1e-3 }).requiresGrad).toBe(true);
    expect(batchnorm(x, { eps: 1e-3, constant: false }).requiresGrad).toBe(true);
    expect(batchnorm(x, { eps: 1e-3, constant: true }).requiresGrad).toBe(false);
    expect(batchnorm(normal([4, 2]), { eps: 1e-3, gamma: leaf([2]) }).requiresGrad).toBe(true);
    expect(batchnorm(normal([4, 2]), { eps: 1e-3, gamma: [1, 2] }).requiresGrad).toBe(false);
  });
});

test("keeps mean and var of the last call, also out of a scope, and changes no input", () => {
  const op = new mygrad.BatchNorm();
  expect([op.mean, op.var]).toEqual([null, null]);
  const x = normal([6, 3, 2], 5, 2);
  const before = values(x);
  const [y, mean, variance] = scope(() => [op.call(x, { eps: 1e-3, gamma: [1, 2, 3] }), op.mean!, op.var!]);
  expect(relativeError(values(mean!), values(x.mean([0, 2])))).toBeLessThan(1e-14);
  expect(relativeError(values(variance!), values(x.variance([0, 2], { correction: 0 })))).toBeLessThan(1e-13);
  expect(values(x)).toEqual(before);
  expect(values(y!)).toEqual(values(batchnorm(x, { eps: 1e-3, gamma: [1, 2, 3] })));
  op.call(normal([2, 4]).to("float32"), { eps: 1e-3 });
  expect([op.mean!.shape, op.mean!.dtype]).toEqual([[4], "float32"]);
});

test("a channel of one value, or of equal ones, comes out as beta; NaN where eps is 0 too", () => {
  const beta = [3, 4];
  expect(batchnorm([[5, -7]], { eps: 1e-3, beta }).toArray()).toEqual([beta]);
  expect(values(batchnorm([[5, -7]], { eps: 0 }))).toEqual([Number.NaN, Number.NaN]);
  expect(
    batchnorm(
      [
        [5, 1],
        [5, 1],
      ],
      { eps: 1e-3, gamma: [2, 2], beta },
    ).toArray(),
  ).toEqual([beta, beta]);
  const x = leaf([1, 2]);
  batchnorm(x, { eps: 1e-3, beta }).sum().backward();
  expect(values(x.grad)).toEqual([0, 0]);
});

test("array-likes take x's type; empty ones stand for none", () => {
  const x = normal([4, 2]).to("float32");
  const y = batchnorm(x, { eps: 1e-3, gamma: new Float64Array([2, 3]), beta: [1, 1] });
  expect(y.dtype).toBe("float32");
  expect(values(batchnorm(x, { eps: 1e-3, gamma: [], beta: tensor([]) }))).toEqual(values(batchnorm(x, { eps: 1e-3 })));
});

test("errors", () => {
  const x = normal([4, 2]);
  expect(() => batchnorm(x, {} as never)).toThrow(/needs eps/);
  expect(() => batchnorm(x, undefined as never)).toThrow(OptionError);
  for (const eps of [-1e-3, Number.NaN, "1", null]) {
    expect(() => batchnorm(x, { eps: eps as never }), String(eps)).toThrow(OptionError);
  }
  expect(() => batchnorm(x, { epsilon: 1e-3 } as never)).toThrow(/has the options gamma, beta, eps, constant/);
  expect(() => batchnorm(x, { eps: 1, constant: 1 as never })).toThrow(OptionError);
  expect(() => batchnorm(x, { eps: 1, gamma: [1, 2, 3] })).toThrow(ShapeError);
  expect(() => batchnorm(x, { eps: 1, beta: [[1, 2]] })).toThrow(ShapeError);
  expect(() => batchnorm([1, 2, 3], { eps: 1 })).toThrow(ShapeError);
  expect(() => batchnorm(zeros([0, 3], f64), { eps: 1 })).toThrow(ShapeError);
  expect(() => batchnorm(zeros([2, 3], { dtype: "int32" }), { eps: 1 })).toThrow(DTypeError);
  expect(() => batchnorm(x, { eps: 1, gamma: zeros([2]) })).toThrow(DTypeError);
  expect(() => batchnorm("x" as never, { eps: 1 })).toThrow(DTypeError);
});
