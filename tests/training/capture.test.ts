import { describe, expect, test } from "vitest";
import { stepModels } from "../../src/cli/step_models.js";
import {
  capture,
  getThreads,
  manualSeed,
  memoryStats,
  nn,
  optim,
  profile,
  Random,
  randn,
  scope,
  setThreads,
  type Tensor,
  tensor,
} from "../../src/index.js";
import { own } from "../../src/memory/scope.js";

const random = new Random(5);
const normal = (shape: number[]) => own(randn(shape, { random }));
const labels = (n: number, classes: number, r = random) =>
  own(
    tensor(
      Array.from({ length: n }, () => r.below(classes)),
      { dtype: "int32" },
    ),
  );
const numbers = (t: Tensor) => [...t.dataSync()];
const state = (model: nn.Module) =>
  Object.fromEntries(Object.entries(model.stateDict()).map(([k, v]) => [k, numbers(v as Tensor)]));

interface Setup {
  readonly model: nn.Module;
  readonly step: (x: Tensor, y: Tensor) => Tensor;
  readonly after?: () => void;
}

/** The same training as it is and captured, over these batches, must agree in every bit; returns the losses. */
function expectAlike(make: () => Setup, batches: readonly (readonly [Tensor, Tensor])[]): number[] {
  const run = (captured: boolean) => {
    manualSeed(3);
    const { model, step, after } = make();
    const wrapped = captured ? capture(step) : step;
    const losses = batches.map(([x, y]) => {
      const loss = scope(() => wrapped(x, y).item());
      after?.();
      return loss;
    });
    const result = {
      losses,
      state: state(model),
      grads: model.parameters().map((p) => (p.grad ? numbers(p.grad) : null)),
    };
    if (captured) (wrapped as ReturnType<typeof capture>).dispose();
    return result;
  };
  const plain = run(false);
  expect(run(true)).toEqual(plain);
  return plain.losses;
}

const cnn = () =>
  new nn.Sequential(
    ...[new nn.Conv2d(1, 4, 3, { padding: 1 }), new nn.BatchNorm2d(4), new nn.ReLU(), new nn.MaxPool2d(2)],
    ...[new nn.Dropout(0.3), new nn.Flatten(), new nn.Linear(64, 5)],
  );
const images = (count: number, n = 6) =>
  Array.from({ length: count }, () => [normal([n, 1, 8, 8]), labels(n, 5)] as const);

describe("a captured training step", () => {
  test("is the same bits with dropout, running statistics, Adam, a schedule and clipping", () => {
    const losses = expectAlike(() => {
      const model = cnn();
      const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
      const schedule = new optim.CosineWarmup(optimizer, { warmup: 2, total: 12 });
      const loss = new nn.CrossEntropyLoss({ labelSmoothing: 0.1 });
      const step = (x: Tensor, y: Tensor) => {
        optimizer.zeroGrad();
        const value = loss.forward(model.forward(x), y);
        value.backward();
        optim.clipGradNorm(model.parameters(), 0.5);
        optimizer.step();
        return value;
      };
      return { model, step, after: () => schedule.step() };
    }, images(10));
    expect(new Set(losses).size).toBe(10);
  });

  test("with zeroGrad and the optimizer outside", () => {
    const batches = images(7);
    const run = (captured: boolean) => {
      manualSeed(1);
      const model = cnn();
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
      const loss = new nn.CrossEntropyLoss();
      const both = (x: Tensor, y: Tensor) => {
        const logits = model.forward(x);
        const value = loss.forward(logits, y);
        value.backward();
        return { value, logits };
      };
      const step = captured ? capture(both) : both;
      const seen = batches.map(([x, y]) =>
        scope(() => {
          optimizer.zeroGrad();
          const { value, logits } = step(x, y);
          optimizer.step();
          return [value.item(), ...numbers(logits)];
        }),
      );
      return { seen, state: state(model) };
    };
    expect(run(true)).toEqual(run(false));
  });

  test("with gradients that add up over calls", () => {
    const weight = () => {
      const w = own(tensor([1, -2, 3]));
      w.requiresGrad = true;
      return w;
    };
    const [a, b] = [weight(), weight()];
    const add = (w: Tensor) => (x: Tensor, _: Tensor) => {
      const value = w.mul(x).square().sum();
      value.backward();
      return value;
    };
    const captured = capture(add(b));
    for (let i = 0; i < 5; i++) {
      const x = normal([3]);
      expect(captured(x, x).item()).toBe(add(a)(x, x).item());
      expect(numbers(b.grad!)).toEqual(numbers(a.grad!));
    }
    b.grad = null;
    expect(() => captured(normal([3]), normal([3]))).toThrow(/captured with gradients to add to/);
  });

  test("other shapes between, plain steps between, and other thread counts", () => {
    const batches = [...images(3), ...images(1, 4), ...images(2), ...images(3, 4), ...images(2), ...images(2, 3)];
    const threads = getThreads();
    let calls = 0;
    try {
      expectAlike(() => {
        const model = cnn();
        const optimizer = new optim.RMSprop(model.parameters(), { lr: 0.003 });
        const loss = new nn.CrossEntropyLoss();
        const step = (x: Tensor, y: Tensor) => {
          optimizer.zeroGrad();
          const value = loss.forward(model.forward(x), y);
          value.backward();
          optimizer.step();
          return value;
        };
        const [x, y] = batches[0]!;
        const after = () => {
          setThreads((calls++ % 3) + 1);
          scope(() => step(x, y));
        };
        return { model, step, after };
      }, batches);
    } finally {
      setThreads(threads);
    }
  });

  test("targets that are ignored are counted each time, and a wrong one is refused each time", () => {
    const logits = normal([4, 3]);
    const plain = (y: Tensor) => new nn.CrossEntropyLoss({ weight: tensor([1, 2, 3]) }).forward(logits, y);
    const captured = capture(plain);
    for (const y of [
      [0, 1, 2, 0],
      [-100, 1, 2, 0],
      [-100, -100, 2, 0],
      [1, 1, 1, -100],
    ]) {
      const target = tensor(y, { dtype: "int32" });
      expect(captured(target).item()).toBe(plain(target).item());
    }
    expect(() => captured(tensor([0, 1, 2, 3], { dtype: "int32" }))).toThrow(/3 in row 3/);
    expect(captured(tensor([0, 1, 2, 0], { dtype: "int32" })).item()).toBe(
      plain(tensor([0, 1, 2, 0], { dtype: "int32" })).item(),
    );
    captured.dispose();
    const table = new nn.Embedding(5, 2);
    const look = capture((index: Tensor) => table.forward(index));
    for (let i = 0; i < 4; i++) {
      const index = labels(3, 5);
      expect(numbers(look(index))).toEqual(numbers(table.forward(index)));
    }
    expect(() => look(tensor([0, 5, 1], { dtype: "int32" }))).toThrow(/takes numbers from 0 to 4/);
  });

  test("random tensors, constants and masks made inside", () => {
    const attention = new nn.MultiheadAttention(4, 2, { batchFirst: true });
    const plain = (x: Tensor) => {
      const noisy = x
        .add(randn([2, 3, 4]))
        .mul(tensor([1, 2, 3, 4]))
        .add(0.5);
      return attention.forward(noisy, noisy, noisy, { isCausal: true });
    };
    const captured = capture(plain);
    const inputs = Array.from({ length: 5 }, () => normal([2, 3, 4]));
    const run = (f: (x: Tensor) => Tensor) => {
      manualSeed(9);
      return inputs.map((x) => numbers(f(x)));
    };
    expect(run(captured)).toEqual(run(plain));
  });

  test.each([
    ["weightNorm", () => nn.weightNorm(new nn.Conv2d(1, 5, 8))],
    ["weightStandardization", () => nn.weightStandardization(new nn.Conv2d(1, 5, 8))],
    ["SyncBatchNorm of one rank", () => new nn.Sequential(new nn.SyncBatchNorm(1), new nn.Conv2d(1, 5, 8))],
  ])("%s", (_, layer) => {
    expectAlike(() => {
      const model = new nn.Sequential(layer() as nn.Module, new nn.Flatten());
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
      const loss = new nn.CrossEntropyLoss();
      const step = (x: Tensor, y: Tensor) => {
        optimizer.zeroGrad();
        const value = loss.forward(model.forward(x), y);
        value.backward();
        optimizer.step();
        return value;
      };
      return { model, step };
    }, images(5));
  });

  test.each(stepModels.map((m) => [m.name, m] as const))("%s, five steps", (_, { build }) => {
    const run = (captured: boolean) => {
      const made = build(1);
      const step = captured ? capture(() => made.update()) : () => made.update();
      const losses = Array.from({ length: 5 }, () => scope(() => step().item()));
      return { losses, state: state(made.model) };
    };
    expect(run(true)).toEqual(run(false));
  });
});

test("the function runs twice for each kind of call: as it is, and to be captured", () => {
  let runs = 0;
  const captured = capture((x: Tensor) => {
    runs++;
    return x.mul(2);
  });
  for (let i = 0; i < 5; i++) expect(captured(tensor([i])).item()).toBe(2 * i);
  expect(runs).toBe(2);
  for (let i = 0; i < 5; i++) captured(tensor([i, i]));
  expect(runs).toBe(4);
  captured(tensor([7]));
  expect(runs).toBe(4);
});

describe("results", () => {
  test("are new tensors each time, in the structure that the function returns", () => {
    const captured = capture((x: Tensor) => ({ twice: x.mul(2), rest: [x.add(1), null] as const }));
    const results = [1, 2, 3, 4].map((v) => captured(tensor([v])));
    expect(results.map((r) => [r.twice.item(), r.rest[0].item(), r.rest[1]])).toEqual(
      [1, 2, 3, 4].map((v) => [2 * v, v + 1, null]),
    );
    expect(capture(() => {})()).toBe(undefined);
  });

  test("have no history", () => {
    const w = tensor([2], { requiresGrad: true });
    const captured = capture((x: Tensor) => w.mul(x));
    for (let i = 0; i < 3; i++) expect(captured(tensor([3])).requiresGrad).toBe(false);
  });

  test("a parameter given back is copied, and lives on", () => {
    const w = own(tensor([2], { requiresGrad: true }));
    const captured = capture(() => w);
    for (let i = 0; i < 3; i++) captured().dispose();
    captured.dispose();
    expect(w.item()).toBe(2);
  });

  test("a profile, and a capture around it, see the ops", () => {
    const inner = capture((x: Tensor) => x.mul(2));
    const outer = capture((x: Tensor) => inner(x).add(1));
    for (let i = 0; i < 4; i++) {
      expect(outer(tensor([i])).item()).toBe(2 * i + 1);
      expect(profile(() => inner(tensor([i]))).entries.map((e) => e.op)).toEqual(["mul"]);
    }
  });
});

describe("memory", () => {
  test("comes back with dispose, and stays the same from call to call", () => {
    const before = memoryStats();
    const body = (x: Tensor) => x.mul(2).exp().add(1).sum();
    const captured = capture(body, { keep: 2 });
    scope(() => {
      for (let i = 0; i < 3; i++) captured(randn([1000]));
    });
    const { liveBytes } = memoryStats();
    expect(liveBytes).toBeGreaterThan(before.liveBytes);
    scope(() => {
      for (let i = 0; i < 50; i++) captured(randn([1000]));
    });
    expect(memoryStats().liveBytes).toBe(liveBytes);
    // A third kind of call ends the one that was unused for longest.
    scope(() => {
      for (const n of [10, 20, 30, 10, 20, 30, 10, 20, 30]) for (let i = 0; i < 3; i++) captured(randn([n]));
    });
    expect(memoryStats().liveBytes).toBeLessThan(liveBytes);
    captured.dispose();
    expect(memoryStats()).toMatchObject({ liveBytes: before.liveBytes, liveBlocks: before.liveBlocks });
  });

  test("what was closed over and disposed is kept", () => {
    const c = own(tensor([1, 2, 3]));
    const captured = capture((x: Tensor) => x.add(c));
    for (let i = 0; i < 2; i++) captured(tensor([0, 0, 0]));
    c.dispose();
    const fill = Array.from({ length: 20 }, () => tensor([9, 9, 9]));
    expect(numbers(captured(tensor([1, 1, 1])))).toEqual([2, 3, 4]);
    expect(fill).toHaveLength(20);
  });

  test("a gradient outlives the capture that made it", () => {
    const w = own(tensor([1, 2], { requiresGrad: true }));
    const captured = capture((x: Tensor) => {
      w.grad = null;
      w.mul(x).sum().backward();
    });
    for (const v of [1, 2, 3]) captured(tensor([v, v]));
    captured.dispose();
    const fill = Array.from({ length: 20 }, () => tensor([9, 9]));
    expect(numbers(w.grad!)).toEqual([3, 3]);
    expect(fill).toHaveLength(20);
  });
});

describe("what cannot be captured", () => {
  const twice = (f: (x: Tensor) => Tensor) => {
    const captured = capture(f);
    captured(tensor([1]));
    return () => captured(tensor([1]));
  };

  test.each([
    ["item", (x: Tensor) => x.mul(x.item())],
    ["dataSync", (x: Tensor) => tensor(x.dataSync())],
    ["toArray", (x: Tensor) => tensor(x.toArray())],
    ["assign", (x: Tensor) => x.add(1).assign([5])],
  ])("%s", (_, f) => {
    const again = twice(f);
    expect(again).toThrow(/computes with tensors alone.*docs\/capture\.md/);
    // Nothing is left behind: the next call tries again, and other tensors work.
    expect(again).toThrow(/computes with tensors alone/);
    expect(tensor([3]).item()).toBe(3);
  });

  test("results other than tensors, promises, inputs that are no tensors or want a gradient", () => {
    expect(() => capture((x: Tensor) => x.item() as never)(tensor([1]))).toThrow(/returns tensors; got 1/);
    expect(() => capture((async () => null) as never)()).toThrow(/synchronous/);
    expect(() => capture((x: Tensor) => x)(5 as never)).toThrow(/takes tensors; got 5/);
    expect(() => capture((x: Tensor) => x)(tensor([1], { requiresGrad: true }))).toThrow(/are data/);
    expect(() => capture((x: Tensor) => x, { keep: 0 })).toThrow(/keep/);
    expect(() => capture((x: Tensor) => x, { kept: 1 } as never)).toThrow(/kept/);
  });

  test("gradients that were empty, and are not any more", () => {
    const w = own(tensor([1], { requiresGrad: true }));
    const captured = capture((x: Tensor) => {
      const value = w.mul(x).sum();
      value.backward();
      return value;
    });
    for (let i = 0; i < 3; i++) {
      w.grad = null;
      captured(tensor([2]));
    }
    expect(() => captured(tensor([2]))).toThrow(/gradients that backward found empty.*zeroGrad/);
  });

  test("a checkpoint inside", () => {
    const layer = new nn.Checkpoint(new nn.Linear(1, 1));
    expect(twice((x) => layer.forward(x.reshape([1, 1])))).toThrow(/checkpoint in a captured function/);
  });
});
