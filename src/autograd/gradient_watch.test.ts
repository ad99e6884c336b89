import { describe, expect, test } from "vitest";
import { StateError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { kernels } from "../kernels/dispatch.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { recompute } from "./checkpoint.js";
import type { Vertex } from "./graph.js";
import { capture, grad, linear, noGrad, type Tensor, tensor, watchGradients } from "./index.js";

const leaf = (values: readonly number[]) => tensor(values, { dtype: "float64", requiresGrad: true });
const normal = (seed: number) => {
  const random = new Random(seed);
  return Array.from({ length: 4 }, () => random.normal());
};
const random = (seed: number) => leaf(normal(seed));

describe("registerPostAccumulateGradHook", () => {
  test("fires once a pass, when nothing more will be added, and before older parts of the graph are walked", () => {
    const [x, w, v] = [random(1), random(2), random(3)];
    const seen: string[] = [];
    for (const [name, p] of Object.entries({ x, w, v })) {
      p.registerPostAccumulateGradHook((t) => {
        expect(t).toBe(p);
        const others = Object.entries({ x, w, v }).filter(([, q]) => q.grad !== null && q !== p);
        seen.push(`${name} ${p.grad!.toArray()} after ${others.map(([n]) => n)}`);
      });
    }
    // w is used twice: by the first op and by the last.
    const loss = () => x.mul(w).mul(v).add(w).square().sum();
    const expected = grad(loss(), [x, w, v]).map((g) => `${g.toArray()}`);
    loss().backward();
    expect(seen.length).toBe(3);
    expect(seen[0]).toBe(`v ${expected[2]} after `);
    expect(new Set(seen.slice(1).map((s) => s[0]))).toEqual(new Set(["x", "w"]));
    for (const [i, name] of ["x", "w"].entries()) {
      expect(seen.find((s) => s.startsWith(name))).toContain(` ${expected[i]} after`);
    }
  });

  test("gradients have the same bits with and without hooks, accumulated ones too, and zeros keep their sign", () => {
    const run = (hooks: boolean) => {
      const ps = [random(4), random(5), random(6), leaf([-0, 0, -1, 1])];
      if (hooks) for (const p of ps) p.registerPostAccumulateGradHook(() => {});
      const [a, b, c, d] = ps as [Tensor, Tensor, Tensor, Tensor];
      for (let pass = 0; pass < 2; pass++) {
        // b and d get dy itself, and so does the sum below them.
        a.mul(c)
          .add(b)
          .add(d)
          .mul(leaf([-0, 2, 0, 1]))
          .sum()
          .backward();
        if (pass === 0) for (const p of ps) expect(p.grad!.storage.exclusive).toBe(true);
      }
      return ps.map((p) => [...new BigUint64Array(Float64Array.from(p.grad!.dataSync()).buffer)]);
    };
    expect(run(true)).toEqual(run(false));
  });

  test("an optimizer that steps in the hook does what one does afterwards, with one gradient alive at a time", () => {
    const step = (w: Tensor) => {
      w.assign(w.dataSync().map((v, i) => v - 0.1 * w.grad!.dataSync()[i]!));
      w.grad!.dispose();
      w.grad = null;
    };
    const train = (inHook: boolean) => {
      const ws = [7, 8, 9].map((seed) => random(seed));
      let most = 0;
      const count = (w: Tensor) => {
        most = Math.max(most, ws.filter((p) => p.grad !== null).length);
        step(w);
      };
      if (inHook) for (const w of ws) w.registerPostAccumulateGradHook(count);
      for (let k = 0; k < 3; k++) {
        scope(() => {
          ws.reduce((h, w) => h.mul(w).tanh(), tensor([1, 2, 3, 4], { dtype: "float64" }))
            .sum()
            .backward();
        });
        if (!inHook) for (const w of ws) step(w);
      }
      if (inHook) expect(most).toBe(1);
      return ws.map((w) => [...w.dataSync()]);
    };
    expect(train(true)).toEqual(train(false));
  });

  test("a leaf that is the loss itself, retainGraph, createGraph and module-like passes call it too", () => {
    const x = random(10);
    let calls = 0;
    const remove = x.registerPostAccumulateGradHook(() => calls++);
    x.backward(tensor([1, 1, 1, 1], { dtype: "float64" }));
    const y = x.square().sum();
    y.backward(null, { retainGraph: true });
    y.backward();
    x.grad = null;
    x.pow(3).sum().backward(null, { createGraph: true });
    expect(calls).toBe(4);
    const first = x.grad as Tensor | null;
    x.grad = null;
    first!.sum().backward();
    for (const [i, v] of x.dataSync().entries()) expect(x.grad!.dataSync()[i]).toBeCloseTo(6 * v, 12);
    expect(calls).toBe(5);
    remove();
    x.square().sum().backward();
    grad(x.square().sum(), x);
    expect(calls).toBe(5);
  });

  test("behind a checkpoint it fires when the body has been walked back", () => {
    const [x, w] = [random(11), random(12)];
    const around = { first: <T>(run: () => T) => run(), again: <T>(run: () => T) => run(), release() {} };
    const seen: string[] = [];
    w.registerPostAccumulateGradHook(() => seen.push(`w, x ${x.grad ? "has" : "has not"}`));
    x.registerPostAccumulateGradHook(() => seen.push("x"));
    const hidden = recompute((t) => (t as Tensor).mul(w).tanh(), [x.exp()], around);
    hidden.square().sum().backward();
    expect(seen).toEqual(["w, x has not", "x"]);
    const expected = grad(x.exp().mul(w).tanh().square().sum(), [w, x]).map((g) => g.toArray());
    expect([w.grad!.toArray(), x.grad!.toArray()]).toEqual(expected);
  });

  test("a captured function calls it while it is captured", () => {
    const w = random(13);
    let calls = 0;
    w.registerPostAccumulateGradHook(() => calls++);
    const step = capture((x: Tensor) => {
      w.grad = null;
      x.mul(w).square().sum().backward();
    });
    const x = tensor(normal(14), { dtype: "float64" });
    const grads = Array.from({ length: 4 }, () => {
      step(x);
      return w.grad!.toArray();
    });
    expect(calls).toBe(2);
    for (const g of grads) expect(g).toEqual(grads[0]);
    step.dispose();
  });

  test("an error in a hook ends the pass and leaves no memory behind but the gradients that are there", () => {
    const [x, w] = [random(15), random(16)];
    const live = heap.stats.liveBytes;
    const remove = w.registerPostAccumulateGradHook(() => {
      throw new RangeError("enough");
    });
    expect(() => scope(() => x.exp().mul(w).sum().backward())).toThrow(RangeError);
    expect([x.grad, w.grad !== null]).toEqual([null, true]);
    w.grad!.dispose();
    w.grad = null;
    expect(heap.stats.liveBytes).toBe(live);
    remove();
    remove();
    expect(w.vertex.watchers).toBe(null);
  });

  test("results of ops, and tensors without requiresGrad, have none", () => {
    expect(() =>
      random(17)
        .exp()
        .registerPostAccumulateGradHook(() => {}),
    ).toThrow(/the result of exp/);
    expect(() => tensor([1]).registerPostAccumulateGradHook(() => {})).toThrow(StateError);
  });
});

describe("watchGradients", () => {
  test("tells the beginning with all leaves, each leaf, every node between, and the end", () => {
    const [x, w, frozen, elsewhere] = [random(18), random(19), random(20), random(21)];
    frozen.requiresGrad = false;
    const seen: string[] = [];
    const stop = watchGradients([x.vertex, w.vertex, frozen.vertex, elsewhere.vertex], {
      begin: ({ leaves, recorded }) => {
        expect([leaves.has(x.vertex), leaves.has(w.vertex), leaves.has(frozen.vertex)]).toEqual([true, true, false]);
        expect([leaves.has(elsewhere.vertex), recorded]).toEqual([false, false]);
        seen.push("begin");
      },
      ready: (v) => seen.push(v === x.vertex ? "x" : "w"),
      between: () => seen.push("-"),
      end: (failed) => seen.push(failed ? "failed" : "end"),
    });
    x.exp().mul(w).mul(frozen).sum().backward();
    expect(seen.join(" ")).toMatch(/^begin (- )+w - x - end$/);
    seen.length = 0;
    const y = x.mul(w);
    noGrad(() => w.assign([1, 2, 3, 4]));
    expect(() => y.sum().backward()).toThrow(StateError);
    expect(seen.join(" ")).toMatch(/^begin (- )+failed$/);
    seen.length = 0;
    stop();
    w.mul(elsewhere).sum().backward();
    expect(seen).toEqual([]);
  });

  describe("early", () => {
    const matrix = (seed: number) => random(seed).detach().reshape([2, 2]);
    /** What happens in the backward of two linear layers, by the ops that run and the leaves that are ready. */
    const follow = (early: true | undefined) => {
      const [w1, b1, w2] = [matrix(22), random(23).detach().narrow(0, 0, 2), matrix(24)].map((t) => {
        t.requiresGrad = true;
        return t;
      }) as [Tensor, Tensor, Tensor];
      const leaves = { w1, b1, w2 };
      const names = new Map(Object.entries(leaves).map(([name, t]) => [t.vertex, name]));
      const seen: string[] = [];
      const watcher = { ready: (v: Vertex) => void seen.push(names.get(v)!) };
      const stop = watchGradients([...names.keys()], early ? { early, ...watcher } : watcher);
      const loss = linear({ x: linear({ x: matrix(25), weight: w1, bias: b1 }, {}).exp(), weight: w2, bias: null }, {});
      // What linear computes dx and dweight with.
      const products = kernels.matmul;
      kernels.matmul = (...args) => {
        seen.push("product");
        products(...args);
      };
      try {
        loss.sum().backward();
      } finally {
        kernels.matmul = products;
        stop();
      }
      const grads = Object.values(leaves).map((t) => [...t.grad!.dataSync()]);
      return { order: seen.join(" "), grads };
    };

    test("a weight's gradient is told before that of the layer's input is computed, with the same bits", () => {
      const [late, early] = [follow(undefined), follow(true)];
      expect(late.order).toMatch(/^product product w2 product (w1 b1|b1 w1)$/);
      expect(early.order).toMatch(/^product w2 product product (w1 b1|b1 w1)$/);
      expect(early.grads).toEqual(late.grads);
    });

    test("not where somebody may write to the weight, and not with createGraph", () => {
      const weight = matrix(26);
      weight.requiresGrad = true;
      const input = random(27);
      const run = () => linear({ x: input.exp().reshape([2, 2]), weight, bias: null }, {}).sum();
      const want = grad(run(), input).toArray();
      const stop = watchGradients([weight.vertex], { early: true, ready: () => {} });
      const remove = weight.registerPostAccumulateGradHook((w) => w.assign(w.dataSync().map((v) => v + 1)));
      run().backward();
      expect(input.grad!.toArray()).toEqual(want);
      remove();
      weight.grad = input.grad = null;
      run().backward(null, { createGraph: true });
      expect(weight.grad!.requiresGrad || weight.grad!.vertex.node !== null).toBe(true);
      stop();
    });
  });
});
