import { describe, expect, test } from "vitest";
import { relativeError } from "../../../../tests/conformance/harness.js";
import { normal } from "../../../../tests/conformance/op_harness.js";
import { concat, type Tensor, tensor } from "../../../autograd/index.js";
import { FormatError, NonFiniteError, OptionError, ShapeError, StateError } from "../../../base/errors.js";
import { Dataset } from "../../../data/dataset.js";
import { DataLoader } from "../../../data/loader.js";
import { heap } from "../../../memory/heap.js";
import { scope } from "../../../memory/scope.js";
import * as nn from "../../index.js";

const values = (t: Tensor | null) => [...t!.dataSync()];
const statistics = (m: nn.Module) => m.buffers().map(values);

/** Batches of these sizes, whose means and spreads differ, so that averaging variances would show. */
function cut(sizes: readonly number[], whole: Tensor): Tensor[] {
  let at = 0;
  return sizes.map((n) => {
    at += n;
    return whole.narrow(0, at - n, n);
  });
}

const data = concat([2, 5, 9].map((n, i) => normal([n, 3, 4], 10 * i, 1 + i)));

function momentsOf(whole: Tensor): { mean: number[]; variance: number[] } {
  const flat = whole.permute([1, 0, 2]).reshape([3, -1]);
  return { mean: values(flat.mean(1)), variance: values(flat.variance(1)) };
}

describe("updateStatistics", () => {
  test.each([[[2, 5, 9]], [[16]], [[8, 1, 4, 3]]])("equals the moments of all data, cut as %j", (sizes) => {
    const { mean, variance } = momentsOf(data);
    for (const dtype of ["float64", "float32"] as const) {
      const bn = new nn.BatchNorm1d(3, { dtype, momentum: 0.01 });
      bn.forward(normal([2, 3, 4]).cast(dtype));
      const report = nn.updateStatistics(bn, cut(sizes, data.cast(dtype)));
      expect(report).toEqual({ layers: [""], batches: sizes.length });
      const tolerance = dtype === "float64" ? 1e-13 : 1e-6;
      expect(relativeError(bn.runningMean!.dataSync(), mean)).toBeLessThan(tolerance);
      expect(relativeError(bn.runningVar!.dataSync(), variance)).toBeLessThan(tolerance);
      expect([bn.numBatchesTracked!.item(), bn.momentum, bn.training]).toEqual([sizes.length, 0.01, true]);
    }
  });

  test("conventions, ghosts and channels last", () => {
    const { mean, variance } = momentsOf(data);
    const biased = new nn.BatchNorm1d(3, {
      ...({ dtype: "float64", runningVariance: "biased", normalizingVariance: "unbiased" } as const),
    });
    nn.updateStatistics(biased, cut([6, 10], data));
    expect(
      relativeError(
        biased.runningVar!.dataSync(),
        variance.map((v) => (v * 63) / 64),
      ),
    ).toBeLessThan(1e-13);
    const ghost = new nn.GhostBatchNorm(3, { dtype: "float64", virtualBatchSize: 3 });
    nn.updateStatistics(ghost, cut([6, 10], data));
    expect(relativeError(ghost.runningMean!.dataSync(), mean)).toBeLessThan(1e-13);
    expect(relativeError(ghost.runningVar!.dataSync(), variance)).toBeLessThan(1e-13);
    const last = new nn.BatchNorm1d(3, { dtype: "float64", axis: -1 });
    nn.updateStatistics(last, cut([6, 10], data.permute([0, 2, 1])));
    expect(relativeError(last.runningVar!.dataSync(), variance)).toBeLessThan(1e-13);
  });

  test("deep layers: as many passes as norms make the result independent of the cut", () => {
    const build = () =>
      new nn.Sequential(
        new nn.BatchNorm1d(3, { dtype: "float64" }),
        new nn.ReLU(),
        new nn.Dropout(0.5),
        new nn.BatchNorm1d(3, { dtype: "float64" }),
        new nn.Tanh(),
        new nn.BatchNorm1d(3, { dtype: "float64" }),
      );
    const [a, b] = [build(), build()];
    nn.updateStatistics(a, cut([4, 12], data));
    nn.updateStatistics(b, cut([9, 7], data));
    expect(relativeError(statistics(a)[4]!, statistics(b)[4]!)).toBeGreaterThan(1e-3);
    const report = nn.updateStatistics(a, cut([4, 12], data), { passes: 3 });
    expect(report).toEqual({ layers: ["0", "3", "5"], batches: 2 });
    nn.updateStatistics(b, cut([9, 7], data), { passes: 3 });
    for (const i of [0, 1, 3, 4, 6, 7]) expect(relativeError(statistics(a)[i]!, statistics(b)[i]!)).toBeLessThan(1e-12);
    // What evaluation then feeds the last norm has just these moments.
    const fed = [...a.eval()].slice(0, 5).reduce((x, layer) => layer.forward(x), data);
    expect(relativeError(statistics(a)[7]!, momentsOf(fed).variance)).toBeLessThan(1e-12);
  });

  test("a DataLoader, pairs, objects, other forms by select, one shot, async, maxBatches", async () => {
    const { mean } = momentsOf(data);
    const images = Float32Array.from(data.dataSync());
    const dataset = new Dataset({ images, labels: new Int32Array(16), sampleShape: [3, 4] });
    const loader = new DataLoader(dataset, { batchSize: 6, shuffle: true, seed: 3 });
    const whole = data.cast("float32");
    const parts = cut([6, 10], whole);
    async function* later() {
      for (const part of parts) yield [part, null];
    }
    const fresh = () => new nn.BatchNorm1d(3);
    const check = (bn: nn.BatchNorm1d) => expect(relativeError(bn.runningMean!.dataSync(), mean)).toBeLessThan(1e-6);
    const sources: Iterable<unknown>[] = [
      loader,
      parts.map((p) => [p, 0]),
      parts.map((input) => ({ input })),
      parts.values(),
    ];
    for (const source of sources) {
      const bn = fresh();
      nn.updateStatistics(bn, source);
      check(bn);
    }
    const selected = fresh();
    nn.updateStatistics(
      selected,
      parts.map((deep) => ({ deep })),
      { select: ({ deep }) => [deep] },
    );
    check(selected);
    const awaited = fresh();
    expect(await nn.updateStatistics(awaited, later())).toEqual({ layers: [""], batches: 2 });
    check(awaited);
    const some = fresh();
    expect(nn.updateStatistics(some, loader, { maxBatches: 2 }).batches).toBe(2);
    await expect(nn.updateStatistics(some, later(), { passes: 2 })).rejects.toThrow(OptionError);
  });

  test("parameters, modes, other layers and the heap stay as they were", () => {
    const model = new nn.Sequential(new nn.Linear(4, 3), new nn.BatchNorm1d(3), nn.spectralNorm(new nn.Linear(3, 3)));
    model.at(0)!.eval();
    const before = { ...model.stateDict() };
    const kept = Object.entries(before).filter(([name]) => !name.startsWith("1."));
    const numbers = () => kept.map(([, t]) => values(t));
    const [was, x] = [numbers(), normal([6, 4]).cast("float32")];
    const live = heap.stats.liveBytes;
    scope(() => nn.updateStatistics(model, [x, x], { passes: 2 }));
    expect(heap.stats.liveBytes).toBeLessThanOrEqual(live);
    expect(numbers()).toEqual(was);
    expect(model.modules().map((m) => m.training)).toEqual([true, false, true, true]);
  });

  test("what fails leaves the statistics from before", () => {
    const model = new nn.Sequential(new nn.BatchNorm1d(3), new nn.BatchNorm1d(3));
    model.forward(normal([4, 3]).cast("float32"));
    const before = statistics(model);
    const good = normal([4, 3]).cast("float32");
    const bad = tensor([
      [1, Number.NaN, 2],
      [3, 4, 5],
    ]);
    expect(() => nn.updateStatistics(model, [good, bad])).toThrow(NonFiniteError);
    expect(() => nn.updateStatistics(model, [good, normal([4, 2]).cast("float32")])).toThrow(ShapeError);
    expect(() => nn.updateStatistics(model, [])).toThrow(/got 0 batches/);
    expect(() => nn.updateStatistics(model, [{ z: good }])).toThrow(/got \{ z \}.*select/);
    expect(() => nn.updateStatistics(model, 3 as unknown as [])).toThrow(OptionError);
    expect(() => nn.updateStatistics(model, [good].values(), { passes: 2 })).toThrow(/can be iterated once/);
    expect(() => nn.updateStatistics(model, [good], { passes: 0 })).toThrow(OptionError);
    expect(() => nn.updateStatistics(model, [good], { maxBatches: 0 })).toThrow(OptionError);
    expect(() => nn.noStatsUpdate(() => nn.updateStatistics(model, [good]))).toThrow(/outside noStatsUpdate/);
    expect(() => nn.updateStatistics(new nn.Linear(2, 2), [good])).toThrow(/Linear with none/);
    expect(statistics(model)).toEqual(before);
    expect(model.modules().every((m) => m.training)).toBe(true);
  });

  test("guard leaves a batch with NaN out", () => {
    const bn = new nn.BatchNorm1d(3, { runningStats: "guard" });
    const good = normal([4, 3]).cast("float32");
    nn.updateStatistics(bn, [
      good,
      tensor([
        [1, Number.NaN, 2],
        [3, 4, 5],
      ]),
    ]);
    expect(relativeError(bn.runningMean!.dataSync(), values(good.mean(0)))).toBeLessThan(1e-6);
    expect(bn.skippedUpdates).toBe(1);
  });
});

test("other layers that follow batches: those with a population are updated, all of them freeze", () => {
  const updated: [nn.Module, unknown[]][] = [
    [new nn.SwitchableNorm(3), [normal([6, 3, 4]).cast("float32")]],
    [new nn.BatchRenorm(3), [normal([6, 3, 4]).cast("float32")]],
    [
      new nn.MaskedBatchNorm(3),
      [
        normal([2, 3, 4]).cast("float32"),
        tensor([
          [1, 1, 0, 0],
          [1, 1, 1, 0],
        ]),
      ],
    ],
    [new nn.ConditionalBatchNorm(3, 2), [normal([2, 3, 4]).cast("float32"), tensor([0, 1], { dtype: "int32" })]],
  ];
  for (const [layer, inputs] of updated) {
    const report = nn.updateStatistics(layer, [inputs], { select: (batch) => batch });
    expect([layer.constructor.name, report.batches]).toEqual([layer.constructor.name, 1]);
    expect(layer.buffers().at(-1)!.item()).toBe(1);
  }
  const masked = updated[2]![0] as nn.MaskedBatchNorm;
  const [x] = updated[2]![1] as [Tensor];
  const valid = concat([x.narrow(0, 0, 1).narrow(2, 0, 2), x.narrow(0, 1, 1).narrow(2, 0, 3)], 2);
  expect(relativeError(masked.runningMean!.dataSync(), values(valid.mean([0, 2])))).toBeLessThan(1e-6);

  for (const own of [new nn.EvoNormB0(3), new nn.PowerNorm(3)]) {
    const model = new nn.Sequential(own, new nn.BatchNorm2d(3));
    const input = normal([4, 3, 2, 2]).cast("float32");
    model.forward(input);
    const before = statistics(own);
    expect(nn.updateStatistics(model, [input]).layers).toEqual(["1"]);
    expect(statistics(own)).toEqual(before);
    expect(nn.freeze(model)).toEqual(["0", "1"]);
    model.train().forward(input);
    expect(statistics(own)).toEqual(before);
  }
});

test("adapt: the statistics of another domain, and nothing else", () => {
  const model = new nn.Sequential(new nn.Linear(3, 4), new nn.BatchNorm1d(4), new nn.ReLU(), new nn.Linear(4, 2));
  const source = normal([32, 3]).cast("float32");
  model.forward(source);
  nn.updateStatistics(model, [source]);
  const parameters = model.parameters().map(values);
  const want = model.eval().forward(source).dataSync();
  // The target domain is the source, seen through an affine map per feature of the first layer's output.
  const linear = model.at(0) as nn.Linear;
  linear.weight.assign(linear.weight.detach().mul(3));
  linear.bias!.assign(linear.bias!.detach().add(5));
  expect(nn.adapt(model, [source]).layers).toEqual(["1"]);
  expect(relativeError(model.forward(source).dataSync(), want)).toBeLessThan(1e-4);
  expect(model.parameters().slice(2).map(values)).toEqual(parameters.slice(2));
});

describe("freeze", () => {
  const build = () =>
    new nn.Sequential(
      new nn.Linear(4, 3, { dtype: "float64" }),
      new nn.Sequential(
        new nn.BatchNorm1d(3, { dtype: "float64" }),
        new nn.Residual(new nn.GhostBatchNorm(3, { dtype: "float64" })),
      ),
      new nn.InstanceNorm1d(3, { trackRunningStats: true, dtype: "float64" }),
    );

  test("statistics and affine are constants in training, and only x has a gradient", () => {
    const model = build();
    const outer = model.at(1) as nn.Sequential;
    const bn = outer.at(0) as nn.BatchNorm1d;
    const ghost = (outer.at(1) as nn.Residual).body as nn.GhostBatchNorm;
    for (const p of [...bn.parameters(), ...ghost.parameters()]) p.assign(normal(p.shape));
    const rows = normal([6, 4]);
    outer.forward(model.at(0)!.forward(rows));
    bn.weight!.grad = normal([3]);
    bn.bias!.requiresGrad = false;
    expect(nn.freeze(model)).toEqual(["1.0", "1.1.body"]);
    const before = statistics(model);
    model.train();
    expect([model.training, bn.training, ghost.training]).toEqual([true, false, false]);
    const y = outer.forward(rows.narrow(1, 0, 3));
    const dy = normal([6, 3]);
    const dx = outer.backward(dy);
    expect(statistics(model)).toEqual(before);
    expect(outer.parameters().map((p) => p.grad)).toEqual([null, null, null, null]);
    const slope = (m: nn.BatchNorm1d | nn.GhostBatchNorm) => m.weight!.detach().div(m.runningVar!.add(m.eps).sqrt());
    const want = dy.add(dy.mul(slope(ghost))).mul(slope(bn));
    expect(relativeError(dx.dataSync(), values(want))).toBeLessThan(1e-13);
    expect(
      relativeError(
        outer
          .eval()
          .forward(rows.narrow(1, 0, 3))
          .dataSync(),
        values(y),
      ),
    ).toBe(0);
    expect(nn.freeze(model)).toEqual([]);

    model.train();
    expect(nn.unfreeze(model)).toEqual(["1.0", "1.1.body"]);
    expect([bn.training, ghost.training]).toEqual([true, true]);
    expect(outer.parameters().map((p) => p.requiresGrad)).toEqual([true, false, true, true]);
  });

  test("a layer by itself takes its mode back; updateStatistics leaves frozen layers alone", () => {
    const bn = new nn.BatchNorm1d(3);
    expect(nn.freeze(bn)).toEqual([""]);
    expect(bn.train().training).toBe(false);
    expect(() => nn.updateStatistics(bn, [normal([4, 3]).cast("float32")])).toThrow(StateError);
    nn.unfreeze(bn);
    expect(bn.training).toBe(true);
    expect(nn.unfreeze(bn)).toEqual([]);
  });

  test("without running statistics there is nothing to go on with", () => {
    const model = new nn.Sequential(new nn.BatchNorm1d(3), new nn.BatchNorm1d(3, { trackRunningStats: false }));
    expect(() => nn.freeze(model)).toThrow(/go on with; got 1 \(BatchNorm1d\)/);
    expect(model.at(0)!.heldInEval).toBe(false);
    expect(() => nn.freeze(undefined as unknown as nn.Module)).toThrow(OptionError);
  });
});

test("a saved state with a negative variance or count is refused whole", () => {
  const model = new nn.Sequential(new nn.Linear(2, 2), new nn.BatchNorm1d(2));
  const before = Object.values(model.stateDict()).map(values);
  const state = (name: string, bad: number[]) => ({
    ...Object.fromEntries(Object.entries(model.stateDict()).map(([k, t]) => [k, t.add(1)])),
    [name]: tensor(bad, bad.length === 1 ? { shape: [] } : {}),
  });
  const variance = () => model.loadStateDict(state("1.running_var", [2, -0.5]));
  expect(variance).toThrow(FormatError);
  expect(variance).toThrow(/1\.running_var holds numbers of at least 0; got -0\.5 at place 1/);
  expect(() => model.loadStateDict(state("1.num_batches_tracked", [-1]))).toThrow(FormatError);
  expect(Object.values(model.stateDict()).map(values)).toEqual(before);
  model.loadStateDict(state("1.running_mean", [-2, -3]));
  expect((model.at(1) as nn.BatchNorm1d).runningMean!.toArray()).toEqual([-2, -3]);
});
