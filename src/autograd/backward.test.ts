import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { DTypeError, ShapeError, StateError } from "../base/errors.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { enableGrad, grad, noGrad, ones, type Tensor, tensor, zeros } from "./index.js";
import { defineOp } from "./op.js";
import { maxPool } from "./ops/max_pool.js";
import { Tensor as TensorClass } from "./tensor.js";

const leaf = (values: number[]) => tensor(values, { dtype: "float64", requiresGrad: true });

/** Live bytes that `body` leaves behind, its own tensors disposed by it. */
function leftBehind(body: () => void): number {
  const before = heap.stats.liveBytes;
  body();
  return heap.stats.liveBytes - before;
}

describe("backward", () => {
  test("gradients add up over passes, and null clears them", () => {
    const x = leaf([1, 2]);
    x.square().sum().backward();
    x.square().sum().backward();
    expect(x.grad!.toArray()).toEqual([4, 8]);
    x.grad = null;
    expect(x.grad).toBe(null);
  });

  test("a leaf that is the loss itself gets the seed, as a copy of its own", () => {
    const x = leaf([3]);
    const seed = tensor([2], { dtype: "float64" });
    x.backward(seed);
    expect(x.grad!.toArray()).toEqual([2]);
    x.grad!.assign([5]);
    expect(seed.toArray()).toEqual([2]);
  });

  test("two leaves that get the same gradient do not share its memory", () => {
    const [a, b] = [leaf([1]), leaf([2])];
    a.add(b).sum().backward();
    a.grad!.assign([7]);
    expect(b.grad!.toArray()).toEqual([1]);
  });

  test("a value used many times sums its parts; a diamond is visited once", () => {
    const x = leaf([3]);
    const y = x.square();
    const z = y.add(y).mul(y); // 2 x^4
    expect(grad(z, x).toArray()).toEqual([8 * 27]);
  });

  test("graphs deeper than the call stack", () => {
    const x = leaf([1]);
    const slope = scope(() => {
      let y: Tensor = x;
      for (let i = 0; i < 20_000; i++) y = y.add(0.001);
      return grad(y, x);
    });
    expect(slope.toArray()).toEqual([1]);
  });

  test("grad leaves .grad alone, gives zeros where nothing leads, and an intermediate's gradient", () => {
    const [x, other] = [leaf([1, 2]), leaf([5])];
    const y = x.mul(3);
    const [dx, dy, none] = grad(y.square().sum(), [x, y, other]);
    expect(dx!.toArray()).toEqual([18, 36]);
    expect(dy!.toArray()).toEqual([6, 12]);
    expect(none!.toArray()).toEqual([0]);
    expect(x.grad).toBe(null);
  });

  test("a second backward is refused unless the graph was kept", () => {
    const x = leaf([2]);
    const y = x.square();
    y.backward(null, { retainGraph: true });
    y.backward();
    expect(x.grad!.toArray()).toEqual([8]);
    expect(() => y.backward()).toThrow(StateError);
    expect(() => y.backward()).toThrow(/square can be walked back once.*retainGraph/);
  });

  test("third derivatives by createGraph", () => {
    const x = leaf([2]);
    const d1 = grad(x.pow(4), x, { createGraph: true });
    const d2 = grad(d1, x, { createGraph: true });
    expect(grad(d2, x).toArray()).toEqual([48]);
  });

  test("backward with createGraph leaves a gradient that can be differentiated", () => {
    const x = leaf([3]);
    x.pow(3).backward(null, { createGraph: true });
    const penalty = x.grad!.square();
    const first = x.grad;
    x.grad = null;
    penalty.backward();
    // d/dx (3 x^2)^2 = 36 x^3
    expect(x.grad!.toArray()).toEqual([36 * 27]);
    first!.dispose();
  });

  test("a value changed in place after it was saved is noticed", () => {
    const x = leaf([1, 2]);
    const w = leaf([3, 4]);
    const y = x.mul(w);
    noGrad(() => w.assign([0, 0]));
    expect(() => y.sum().backward()).toThrow(/mul saved for backward must not change.*written in place/);
  });

  test("a disposed tensor is refused by name of its shape; the tape keeps what it saved", () => {
    const x = leaf([1, 2]);
    const y = x.mul(2);
    const z = y.square();
    y.dispose();
    expect(() => y.add(1)).toThrow(/used until it is disposed; got a disposed tensor of shape \[2\]/);
    z.sum().backward();
    expect(x.grad!.toArray()).toEqual([8, 16]);
  });

  test("what cannot be differentiated says so", () => {
    const x = leaf([1, 2]);
    expect(() => zeros([1]).backward()).toThrow(/depends on a tensor with requiresGrad.*Set requiresGrad/);
    expect(() => noGrad(() => x.sum()).backward()).toThrow(StateError);
    expect(() => x.square().backward()).toThrow(/scalar.*shape \[2\]/);
    expect(() => x.square().backward(zeros([3], { dtype: "float64" }))).toThrow(ShapeError);
    expect(() => x.square().backward(zeros([2]))).toThrow(DTypeError);
    expect(() => grad(x.sum(), zeros([2]))).toThrow(/grad differentiates by tensors with requiresGrad/);
    expect(() => x.greater(0).sum().backward()).toThrow(StateError);
    expect(() => zeros([2], { dtype: "int32", requiresGrad: true })).toThrow(
      /Only tensors of floating-point types.*int32/,
    );
    const y = x.square();
    expect(() => {
      y.requiresGrad = false;
    }).toThrow(/no op made; got the result of square/);
    expect(() => {
      x.grad = zeros([3], { dtype: "float64" });
    }).toThrow(/shape and type, \[2\] float64; got \[3\] float64/);
  });

  test("an op whose backward is a kernel alone refuses a second derivative, not the first", () => {
    const opaque = defineOp<{ x: Tensor }, Record<never, never>>({
      name: "opaque",
      forward: ({ x }) => ({ out: x.mul(2) }),
      backward: (dy) => ({ x: () => dy.mul(2) }),
    });
    const x = leaf([1]);
    expect(grad(opaque({ x }, {}), x).toArray()).toEqual([2]);
    expect(() => grad(opaque({ x }, {}), x, { createGraph: true })).toThrow(/opaque, whose backward is a kernel/);
  });

  test("noGrad and enableGrad nest, and a throw restores them", () => {
    const x = leaf([1]);
    noGrad(() => {
      expect(x.mul(2).requiresGrad).toBe(false);
      enableGrad(() => expect(x.mul(2).requiresGrad).toBe(true));
      expect(x.mul(2).requiresGrad).toBe(false);
    });
    expect(() =>
      noGrad(() => {
        throw new Error("stop");
      }),
    ).toThrow("stop");
    expect(x.mul(2).requiresGrad).toBe(true);
  });

  test("detach cuts the graph and shares the numbers", () => {
    const x = leaf([2]);
    const y = x.square();
    const cut = y.detach();
    expect(cut.requiresGrad).toBe(false);
    expect(grad(x.mul(cut), x).toArray()).toEqual([4]);
    cut.assign([9]);
    expect(y.toArray()).toEqual([9]);
  });
});

describe("memory", () => {
  const step = (x: Tensor) => maxPool(x.mul(x).exp().add(x), 2, 1).mean();

  test("a step in a scope leaves nothing but gradients", () => {
    const x = normal([2, 3, 8]);
    x.requiresGrad = true;
    scope(() => step(x).backward());
    const size = x.size * 8;
    expect(leftBehind(() => scope(() => step(x).backward()))).toBe(0);
    expect(
      leftBehind(() => {
        const g = x.grad!;
        x.grad = null;
        g.dispose();
      }),
    ).toBe(-size);
  });

  test("a leaf that a scope disposes takes its gradient along, unless that is returned", () => {
    const gradientOf = () => {
      const x = leaf([1, 2]);
      x.square().sum().backward();
      return x;
    };
    expect(leftBehind(() => scope(() => void gradientOf()))).toBe(0);
    expect(leftBehind(() => expect(() => scope(() => gradientOf().reshape([3]))).toThrow(ShapeError))).toBe(0);
    const returned = () => {
      const g = scope(() => gradientOf().grad!);
      expect(g.toArray()).toEqual([2, 4]);
      g.dispose();
      const x = scope(() => gradientOf());
      expect(x.grad!.toArray()).toEqual([2, 4]);
      x.grad!.dispose();
      x.dispose();
    };
    expect(leftBehind(returned)).toBe(0);
    const inTwoScopes = () => {
      const g = scope(() => gradientOf().grad!);
      expect(g.toArray()).toEqual([2, 4]);
    };
    expect(leftBehind(() => scope(inTwoScopes))).toBe(0);
  });

  test("a graph can go back after the scope of its leaf ended with a gradient", () => {
    const y = scope(() => {
      const out = leaf([1, 2]).square().sum();
      out.backward(null, { retainGraph: true });
      return out;
    });
    expect(() => y.backward()).not.toThrow();
  });

  test("a loss returned from a scope can go back outside it, and then holds its own bytes only", () => {
    const x = normal([2, 3, 8]);
    x.requiresGrad = true;
    scope(() => step(x).backward());
    const left = leftBehind(() => {
      const loss = scope(() => step(x));
      loss.backward();
      loss.dispose();
    });
    expect(left).toBe(0);
  });

  test("a scope that throws, also in the middle of backward, gives everything back", () => {
    const x = normal([2, 3, 8]);
    x.requiresGrad = true;
    const bad = defineOp<{ x: Tensor }, Record<never, never>, { x: Tensor }>({
      name: "bad",
      forward: (inputs) => ({ out: inputs.x.mul(2), saved: { x: inputs.x } }),
      backward: () => ({
        x: () => {
          throw new Error("no way back");
        },
      }),
    });
    const left = leftBehind(() =>
      expect(() => scope(() => bad({ x: x.exp() }, {}).exp().sum().backward())).toThrow("no way back"),
    );
    expect(left).toBe(0);
  });

  test("a backward pass lets saved values go as it passes them", () => {
    const x = ones([1000], { dtype: "float64", requiresGrad: true });
    scope(() => x.exp().sum().backward()); // the gradient's memory
    scope(() => {
      let y: Tensor = x;
      for (let i = 0; i < 50; i++) {
        const next = y.sin();
        if (y !== x) y.dispose();
        y = next;
      }
      const loss = y.sum();
      y.dispose();
      const before = heap.stats.liveBytes;
      heap.resetPeak();
      loss.backward();
      // 50 saved values go one by one; on top of them a pass never holds more than a few gradients.
      expect(heap.stats.peakBytes - before).toBeLessThan(8 * 8000);
      expect(heap.stats.liveBytes).toBeLessThan(before - 48 * 8000);
    });
  });

  test("grad and createGraph in a scope leave nothing", () => {
    const x = normal([5]);
    x.requiresGrad = true;
    const left = leftBehind(() =>
      scope(() => {
        const g = grad(x.exp().mul(x).sum(), x, { createGraph: true });
        return grad(g.square().sum(), x).dataSync();
      }),
    );
    expect(left).toBe(0);
  });

  test("results of noGrad keep no graph alive", () => {
    const x = leaf([1, 2]);
    const left = leftBehind(() => {
      const y = noGrad(() => scope(() => x.exp().mul(2).sum()));
      y.dispose();
    });
    expect(left).toBe(0);
  });

  test("an empty Tensor has no vertex with history", () => {
    expect(TensorClass.empty([2]).vertex.node).toBe(null);
  });
});
