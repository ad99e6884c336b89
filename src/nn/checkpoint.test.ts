import { describe, expect, test } from "vitest";
import { gradCheck } from "../autograd/grad_check.js";
import {
  checkpoint,
  checkpointSequential,
  F,
  full,
  grad,
  manualSeed,
  memoryStats,
  nn,
  noGrad,
  OptionError,
  optim,
  Random,
  randn,
  StateError,
  scope,
  type Tensor,
} from "../index.js";

const random = new Random(11);
const bits = (t: Tensor | null) => [...t!.dataSync()];

/** A leaf with requiresGrad. */
function leaf(shape: number[], dtype: "float32" | "float64" = "float32"): Tensor {
  const t = randn(shape, { dtype, random });
  t.requiresGrad = true;
  return t;
}

const block = () =>
  new nn.Sequential(
    new nn.Conv1d(3, 6, 3, { padding: 1 }),
    new nn.BatchNorm1d(6),
    new nn.ReLU(),
    new nn.Dropout(0.3),
    new nn.Conv1d(6, 3, 1),
    new nn.BatchNorm1d(3, { momentum: null }),
  );
const blocks = () => new nn.Sequential(block(), block(), block());

/** Losses, gradients and the state after some steps, and what the generator gives afterwards, as numbers. */
function train<M extends nn.Module>(make: () => M, forward: (model: M, x: Tensor) => Tensor, steps = 3): number[][] {
  manualSeed(5);
  const model = make();
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
  const data = new Random(3);
  const seen: number[][] = [];
  for (let i = 0; i < steps; i++) {
    scope(() => {
      const x = randn([4, 3, 5], { random: data });
      x.requiresGrad = true;
      const loss = forward(model, x).square().mean();
      optimizer.zeroGrad();
      loss.backward();
      seen.push(bits(loss), bits(x.grad), ...model.parameters().map((p) => bits(p.grad)));
      optimizer.step();
    });
  }
  return [...seen, ...Object.values(model.stateDict()).map(bits), bits(randn([3]))];
}

/** Statistics that its own forward reads and then moves, with a plain counter, as power iteration does. */
class Follower extends nn.Module {
  declare level: Tensor;
  weight = new nn.Parameter(randn([3, 1], { random: new Random(8) }));
  calls = 0;

  constructor() {
    super();
    this.registerBuffer("level", randn([3, 1], { random: new Random(9) }));
  }

  override forward(x: Tensor): Tensor {
    this.calls++;
    const y = x.mul(this.level.add(this.calls)).mul(this.weight);
    if (this.training) this.level.assign(noGrad(() => this.level.mul(0.9).add(x.mean([0, 2]).reshape([3, 1]))));
    return y;
  }
}

/** Sets its parameter from the first batch, as ActNorm does. */
class FirstBatch extends nn.Module {
  weight = new nn.Parameter(full([3, 1], 1));
  ready = false;

  override forward(x: Tensor): Tensor {
    if (!this.ready) this.weight.assign(noGrad(() => x.square().mean([0, 2]).rsqrt()));
    this.ready = true;
    return x.mul(this.weight);
  }
}

describe("the same bits as without a checkpoint", () => {
  test("loss, gradients, running statistics, batches tracked, dropout, and the generator afterwards", () => {
    const want = train(block, (model, x) => model.forward(x));
    expect(train(block, (model, x) => checkpoint(model, x))).toEqual(want);
    expect(train(block, (model, x) => checkpoint((t: Tensor) => model.forward(t), x))).toEqual(want);
    expect(train(block, (model, x) => new nn.Checkpoint(model).forward(x))).toEqual(want);
    expect(train(block, (model, x) => checkpointSequential(model, 3, x))).toEqual(want);
    expect(train(block, (model, x) => checkpointSequential(model, 1, x))).toEqual(want);
  });

  test("checkpoints in a row and inside each other, three deep", () => {
    const want = train(blocks, (model, x) => model.forward(x.mul(2)).exp());
    const row = (model: nn.Sequential, x: Tensor) => [...model].reduce((t, m) => checkpoint(m, t), x.mul(2)).exp();
    expect(train(blocks, row)).toEqual(want);
    const nested = (model: nn.Sequential, x: Tensor) => {
      const [a, b, c] = [...model] as [nn.Module, nn.Module, nn.Module];
      const innermost = (t: Tensor) => checkpoint(a, t);
      const middle = (t: Tensor) => checkpoint(b, checkpoint(innermost, t));
      return checkpoint((t: Tensor) => c.forward(checkpoint(middle, t.mul(2))), x).exp();
    };
    expect(train(blocks, nested)).toEqual(want);
  });

  test("layers that read what they move, and one layer used twice", () => {
    const make = () => new nn.Sequential(new Follower(), new nn.BatchNorm1d(3), new Follower(), new nn.Tanh());
    const twice = (model: nn.Sequential, x: Tensor) => model.forward(model.forward(x));
    const kept = (model: nn.Sequential, x: Tensor) => checkpoint(model, checkpoint(model, x));
    expect(train(make, kept)).toEqual(train(make, twice));
  });

  test("a layer that the first batch initializes", () => {
    const make = () => new nn.Sequential(new FirstBatch(), new nn.Tanh());
    const want = train(make, (model, x) => model.forward(x));
    expect(train(make, (model, x) => checkpoint(model, x))).toEqual(want);
    expect(train(make, (model, x) => checkpoint((t: Tensor) => checkpoint(model, t), x))).toEqual(want);
  });

  test("power iteration of a spectral norm, called alone and in a model", () => {
    const make = () => nn.spectralNorm(new nn.Conv1d(3, 3, 1));
    const twice = (model: nn.Module, x: Tensor) => model.forward(model.forward(x));
    const want = train(make, twice);
    expect(train(make, (model, x) => checkpoint(model, checkpoint(model, x)))).toEqual(want);
    expect(train(make, (model, x) => checkpoint((t: Tensor) => twice(model, t), x))).toEqual(want);
  });

  test("what was called, and how often, does not show: counters and training stay", () => {
    const model = new Follower();
    const x = leaf([2, 3, 4]);
    const y = checkpoint(model, x);
    model.eval();
    y.sum().backward();
    expect([model.calls, model.training]).toEqual([1, false]);
  });

  test("running statistics that the caller holds, under noStatsUpdate and without", () => {
    const run = (still: boolean, kept: boolean) => {
      const x = randn([5, 3], { random: new Random(2) });
      x.requiresGrad = true;
      const [mean, variance] = [randn([3], { random: new Random(4) }), randn([3], { random: new Random(6) }).square()];
      const norm = new nn.BatchNorm1d(3);
      const body = (t: Tensor) =>
        norm
          .forward(F.batchNorm(t, { runningMean: mean, runningVar: variance, training: true }))
          .mul(new Random(1).uniform());
      const forward = () => (kept ? checkpoint(body, x) : body(x));
      const y = still ? nn.noStatsUpdate(forward) : forward();
      y.square().sum().backward();
      return [x.grad, mean, variance, norm.runningMean, norm.weight!.grad].map(bits);
    };
    expect(run(false, true)).toEqual(run(false, false));
    expect(run(true, true)).toEqual(run(true, false));
    expect(run(true, true)[3]).not.toEqual(run(false, true)[3]);
  });

  test("evaluation with statistics that move before backward is refused, as it is without", () => {
    const norm = new nn.BatchNorm1d(3);
    const x = leaf([4, 3]);
    for (const forward of [() => norm.forward(x), () => checkpoint(norm, x)]) {
      norm.eval();
      const loss = forward().square().sum();
      norm.train().forward(x);
      expect(() => grad(loss, x)).toThrow(/batch_norm_eval saved for backward must not change/);
    }
  });
});

describe("differentiation", () => {
  const w = leaf([4, 4], "float64");
  const body = (x: Tensor) => x.matmul(w).tanh().mul(x).exp();
  const direct = (x: Tensor) => [...grad(body(x).sum(), [x, w])];

  test("grad, with inputs that need no gradient and a parameter by closure", () => {
    const x = leaf([3, 4], "float64");
    expect(grad(checkpoint(body, x).sum(), [x, w]).map(bits)).toEqual(direct(x).map(bits));
    const data = x.detach();
    expect(bits(grad(checkpoint(body, data).sum(), w))).toEqual(bits(direct(x)[1]!));
  });

  test("module.backward, of the wrapper and of a model around it", () => {
    const model = new nn.Sequential(new nn.Linear(4, 5), new nn.BatchNorm1d(5), new nn.Tanh());
    const x = randn([6, 4], { random });
    const dy = randn([6, 5], { random });
    const outcome = (m: nn.Module) => {
      m.zeroGrad();
      m.forward(x);
      const dx = m.backward(dy);
      expect(() => m.backward(dy)).toThrow(StateError);
      return [dx, ...m.parameters().map((p) => p.grad)].map(bits);
    };
    const want = outcome(model);
    expect(outcome(new nn.Checkpoint(model))).toEqual(want);
    expect(outcome(new nn.Sequential(new nn.Checkpoint(model)))).toEqual(want);
    expect(outcome(new nn.Checkpoint(new nn.Sequential(new nn.Checkpoint(model))))).toEqual(want);
  });

  test("several inputs, one of them twice, others no tensors; several results", () => {
    const split = (a: Tensor, b: Tensor, scale: number, c: Tensor) =>
      a === c ? [a.mul(b).mul(scale), b.exp()] : [a.mul(c)];
    const [a, b] = [leaf([3]), leaf([3])];
    const outcome = ([p, q]: readonly Tensor[]) => grad(p!.mul(q!).sum(), [a, b]).map(bits);
    expect(outcome(checkpoint(split, a, b, 3, a))).toEqual(outcome(split(a, b, 3, a)));
    const [first] = checkpoint(split, a, b, 3, a);
    expect(bits(grad(first!.sum(), a))).toEqual(bits(grad(split(a, b, 3, a)[0]!.sum(), a)));
  });

  test("retainGraph: twice the same; without it the second backward is refused", () => {
    const x = leaf([3, 4], "float64");
    const loss = checkpoint(body, x).sum();
    const first = bits(grad(loss, x, { retainGraph: true }));
    expect(bits(grad(loss, x))).toEqual(first);
    expect(() => grad(loss, x)).toThrow(/can be walked back once/);
  });

  test("createGraph: second derivatives against central differences, nested too", () => {
    const norm = (t: Tensor) => F.layerNorm(t, [4], { weight: w.sum(0) });
    const deep = (t: Tensor) => checkpoint((u: Tensor) => checkpoint(norm, u.tanh()).mul(u), t.mul(2));
    const direction = randn([3, 4], { dtype: "float64", random });
    for (const f of [(t: Tensor) => checkpoint(body, t), (t: Tensor) => checkpoint(norm, t), deep]) {
      const { errors } = gradCheck(
        (x) => grad(f(x!).mul(direction).sum(), x!, { createGraph: true }),
        [leaf([3, 4], "float64")],
        random,
      );
      expect(errors[0]).toBeLessThanOrEqual(1e-6);
    }
  });

  test("createGraph: a parameter inside gets the gradient of a gradient as without", () => {
    const penalty = (f: (x: Tensor) => Tensor) => {
      const x = leaf([3, 4], "float64")
        .detach()
        .assign(Float64Array.from({ length: 12 }, (_, i) => Math.sin(i)));
      x.requiresGrad = true;
      const g = grad(f(x).sum(), x, { createGraph: true });
      return bits(grad(g.square().sum(), w));
    };
    expect(penalty((x) => checkpoint(body, x))).toEqual(penalty(body));
  });

  test("results of side branches, and results nobody uses", () => {
    const x = leaf([3]);
    const f = (t: Tensor) => {
      t.exp().square();
      return [t.sin(), t.cos()];
    };
    const [sine] = checkpoint((t: Tensor) => f(t.mul(2)).map((u) => u.tanh()), x) as [Tensor];
    expect(bits(grad(sine.sum(), x))).toEqual(bits(grad(f(x.mul(2))[0]!.tanh().sum(), x)));
  });

  test("without recording the body simply runs", () => {
    const x = leaf([3, 4], "float64");
    const y = noGrad(() => checkpoint(body, x));
    expect([y.requiresGrad, bits(y)]).toEqual([false, bits(body(x))]);
    expect(checkpoint((t: Tensor) => t, x)).toBe(x);
  });
});

describe("errors", () => {
  const x = leaf([3, 4]);
  const wrongs: [string, (second: boolean) => (t: Tensor) => Tensor, RegExp][] = [
    ["another op", (second) => (t) => (second ? t.exp() : t.sin()).mul(2), /exp in place of sin/],
    ["fewer ops", (second) => (t) => (second ? t.exp() : t.exp().sin()), /no sin/],
    ["more ops", (second) => (t) => (second ? t.exp().sin() : t.exp()), /sin after all/],
    ["other axes", (second) => (t) => t.reshape([3, 2, 2]).sum(second ? 1 : 2), /sum with other options/],
    ["other shapes", (second) => (t) => t.mul(second ? one.detach() : two), /float32 \[4\] in place of float32 \[\]/],
    ["another parameter", (second) => (t) => t.mul(second ? other : one), /mul of other tensors or parameters/],
    ["other random numbers", () => (t) => F.dropout(t, { random }), /dropout with other options or random numbers/],
  ];
  const [one, other, two] = [leaf([4]), leaf([4]), full([], 2)];

  test.each(wrongs)("a body that changes its mind: %s", (_, body, message) => {
    let runs = 0;
    const loss = checkpoint((t: Tensor) => body(runs++ > 0)(t), x).sum();
    expect(() => grad(loss, x, { retainGraph: true })).toThrow(StateError);
    expect(() => grad(loss, x)).toThrow(message);
  });

  test("a body that throws the second time leaves generator, state and memory as they were, and may be asked again", () => {
    const model = block();
    const batch = leaf([4, 3, 5]);
    const failure = new RangeError("not now");
    let runs = 0;
    const loss = scope(() =>
      checkpoint((t: Tensor) => {
        const y = model.forward(t);
        if (++runs === 2) throw failure;
        return y;
      }, batch).sum(),
    );
    const state = Object.values(model.stateDict()).map(bits);
    const live = memoryStats().liveBytes;
    manualSeed(3);
    expect(() => grad(loss, batch, { retainGraph: true })).toThrow(failure);
    expect(memoryStats().liveBytes).toBe(live);
    const after = bits(randn([2]));
    manualSeed(3);
    expect(bits(randn([2]))).toEqual(after);
    expect(Object.values(model.stateDict()).map(bits)).toEqual(state);
    expect(bits(grad(loss, batch)).every(Number.isFinite)).toBe(true);
  });

  test("a body that throws the first time", () => {
    const live = memoryStats().liveBytes;
    const fail = (t: Tensor): Tensor => {
      t.exp().sin();
      throw new RangeError("not now");
    };
    expect(() => checkpoint(fail, x)).toThrow(RangeError);
    expect(memoryStats().liveBytes).toBe(live);
    expect(bits(grad(checkpoint((t: Tensor) => t.exp(), x).sum(), x))).toEqual(bits(x.exp()));
  });

  test("inputs and parameters that were written before backward", () => {
    const layer = new nn.Linear(4, 2);
    const input = leaf([3, 4]);
    const bad = /must not change before it/;
    const loss = checkpoint(layer, input).sum();
    layer.weight.assign(layer.weight.dataSync());
    expect(() => grad(loss, input)).toThrow(bad);
    const again = checkpoint(layer, input).sum();
    input.assign(input.dataSync());
    expect(() => grad(again, input)).toThrow(bad);
  });

  test("a gradient taken inside the body, of what it has recorded", () => {
    const body = (t: Tensor) => t.mul(grad(t.exp().sum(), t));
    expect(() => checkpoint(body, x)).toThrow(/cannot go back through what it has itself recorded/);
  });

  test("bodies and results that are none", () => {
    expect(() => checkpoint(x as never, x)).toThrow(/module or a function of the inputs first.*checkpoint\(body, x\)/);
    expect(() => checkpoint((() => 3) as never, x)).toThrow(/tensor or an array of tensors; got 3/);
    expect(() => checkpoint((() => undefined) as never, x)).toThrow(/got undefined/);
    expect(() => checkpoint((_: Tensor): Tensor[] => [], x)).toThrow(/an empty array/);
    expect(() => checkpoint((async (t: Tensor) => t.exp()) as never, x)).toThrow(/got a promise/);
    expect(() => new nn.Checkpoint((() => x) as never)).toThrow(OptionError);
    expect(() => checkpointSequential(new nn.Sequential(new nn.ReLU()), 2, x)).toThrow(/from 1 to 1/);
    expect(() => checkpointSequential(new nn.ReLU() as never, 2, x)).toThrow(/takes a Sequential/);
  });
});

test("nn.Checkpoint: names, state, modes as the module's own", () => {
  const inner = block();
  const model = new nn.Sequential(new nn.Checkpoint(inner), new nn.ReLU());
  const plain = new nn.Sequential(inner, new nn.ReLU());
  expect(Object.keys(model.stateDict())).toEqual(Object.keys(plain.stateDict()));
  expect(model.parameters()).toEqual(plain.parameters());
  model.loadStateDict(new nn.Sequential(block(), new nn.ReLU()).stateDict());
  model.eval();
  expect(inner.modules().every((m) => !m.training)).toBe(true);
  const norm = new nn.Checkpoint(new nn.BatchNorm1d(4));
  nn.convert(new nn.Sequential(norm), "GroupNorm", { numGroups: 2 });
  expect(norm.module).toBeInstanceOf(nn.GroupNorm);
});
