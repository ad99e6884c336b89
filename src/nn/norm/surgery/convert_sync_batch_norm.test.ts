import { describe, expect, test } from "vitest";
import { normal } from "../../../../tests/conformance/op_harness.js";
import type { Tensor } from "../../../autograd/index.js";
import { loopback } from "../../../base/communicator.js";
import { OptionError } from "../../../base/errors.js";
import * as nn from "../../index.js";

const communicator = { ...loopback, size: 2 };

class Own extends nn.BatchNorm2d {
  override forward(x: Tensor): Tensor {
    return super.forward(x).neg();
  }
}

class Net extends nn.Module {
  readonly stem = new nn.Sequential(new nn.BatchNorm2d(6, { eps: 1e-3, momentum: null }), new nn.GroupNorm(2, 6));
  readonly blocks = [
    new nn.BatchNorm(6, { affine: false, axis: -1 }),
    new nn.BatchRenorm(6, { rMax: 2, momentum: 0.2 }),
  ];
  readonly masked = new nn.MaskedBatchNorm(6, { padded: "keep", normalizingVariance: "unbiased", dtype: "float64" });
  readonly conditional = new nn.ConditionalBatchNorm(6, 3);
  readonly last = new nn.BatchNorm1d(6, { runningStats: "guard", parameterGradients: "mean" });
  readonly volume = new nn.BatchNorm3d(6, { trackRunningStats: false });
  readonly flow = new nn.ActNorm(6, { scale: "linear", eps: 1e-4, axis: -1 });
  readonly virtual = new nn.VirtualBatchNorm(6, { affine: false, eps: 2e-3, dtype: "float64" });
  readonly evo = [
    new nn.EvoNormB0(6, { momentum: null, runningStats: "guard" }),
    new nn.EvoNormB0(6, { nonlinear: false }),
  ];
  readonly power = new nn.PowerNorm(6, {
    alphaFwd: 0.7,
    alphaBkw: 0.6,
    warmupIters: 3,
    groups: 2,
    affine: false,
    eps: 1e-3,
  });
  readonly switchable = new nn.SwitchableNorm(6, {
    useMovingAverage: false,
    normalizingVariance: "unbiased",
    lastGamma: true,
  });
  readonly instance = new nn.SwitchableNorm(6, { useBatchNorm: false });
  readonly others = [
    new Own(6),
    new nn.EvoNormS0(6, { groups: 2 }),
    new nn.InstanceNorm1d(6),
    new nn.GhostBatchNorm(6),
    new nn.FrozenBatchNorm(6),
  ];

  override forward(x: Tensor): Tensor {
    return x;
  }
}

describe("convertSyncBatchNorm", () => {
  test("layers of every kind, with the same tensors and options", () => {
    const net = new Net();
    net.stem.forward(normal([2, 6, 2, 2]).cast("float32"));
    net.power.forward(normal([2, 6, 2, 2]).cast("float32"));
    net.switchable.forward(normal([2, 6, 2, 2]).cast("float32"));
    net.virtual.setReference(normal([2, 6, 2, 2]));
    net.last.eval();
    const state = net.stateDict();
    const [parameters, buffers] = [net.parameters(), net.buffers()];
    const [before, after] = [
      [...net.modules()],
      nn.convertSyncBatchNorm(net, communicator, { affineGradients: "mean" }),
    ];
    expect(after).toBe(net);
    // Identity by identity: an optimizer, or who averages parameters, goes on with what it holds.
    expect(net.parameters().every((p, i) => p === parameters[i])).toBe(true);
    expect(net.buffers().every((b, i) => b === buffers[i])).toBe(true);
    const now = net.stateDict();
    expect(Object.keys(now)).toEqual(Object.keys(state));
    for (const [name, t] of Object.entries(state)) expect([...now[name]!.dataSync()], name).toEqual([...t.dataSync()]);

    const stem = net.stem.at(0) as nn.SyncBatchNorm;
    const [first, renorm] = net.blocks as unknown as [nn.SyncBatchNorm, nn.BatchRenorm];
    const last = net.last as unknown as nn.SyncBatchNorm;
    for (const layer of [stem, first, last, net.volume, net.conditional.bn]) {
      expect(layer.constructor).toBe(nn.SyncBatchNorm);
    }
    for (const layer of [stem, first, renorm, net.masked, last, net.volume as unknown as nn.SyncBatchNorm]) {
      expect([layer.communicator, layer.affineGradients]).toEqual([communicator, "mean"]);
    }
    expect([stem.eps, stem.momentum, stem.training, first.axis, first.weight]).toEqual([1e-3, null, true, -1, null]);
    expect([renorm.constructor, renorm.rMax, renorm.dMax, renorm.momentum]).toEqual([
      nn.BatchRenorm,
      2,
      nn.renormSchedule.dMax,
      0.2,
    ]);
    expect([net.masked.padded, net.masked.conventions.normalizingVariance]).toEqual(["keep", "unbiased"]);
    expect([last.training, last.runningStats, last.conventions.parameterGradients]).toEqual([false, "guard", "mean"]);
    expect([net.flow.communicator, net.flow.scale, net.flow.eps, net.flow.axis]).toEqual([
      communicator,
      "linear",
      1e-4,
      -1,
    ]);
    const [evo, plain] = net.evo;
    expect([evo!.communicator, evo!.momentum, evo!.runningStats]).toEqual([communicator, null, "guard"]);
    expect([plain!.communicator, plain!.v]).toEqual([communicator, null]);
    const { virtual, power, switchable, instance } = net;
    expect([switchable.communicator, switchable.momentum]).toEqual([communicator, null]);
    expect(switchable.conventions.normalizingVariance).toBe("unbiased");
    expect([instance.communicator, instance.useBatchNorm, instance.runningVar]).toEqual([communicator, false, null]);
    expect([power.communicator, power.alphaFwd, power.alphaBkw, power.warmupIters]).toEqual([
      communicator,
      0.7,
      0.6,
      3,
    ]);
    expect([power.groups, power.eps, power.weight]).toEqual([2, 1e-3, null]);
    expect([virtual.communicator, virtual.weight, virtual.eps]).toEqual([communicator, null, 2e-3]);
    expect([net.volume.runningMean, net.stem.at(1)]).toEqual([null, before.find((m) => m instanceof nn.GroupNorm)]);
    for (const layer of net.others) expect(before).toContain(layer);

    // To another group, and to layers of one process again.
    const part = { ...loopback, size: 3 };
    nn.convertSyncBatchNorm(net, part);
    expect([(net.stem.at(0) as nn.SyncBatchNorm).communicator, net.masked.communicator]).toEqual([part, part]);
    nn.convert(net, "BatchNorm");
    expect([net.stem.at(0), net.last].map((m) => m!.constructor)).toEqual([nn.BatchNorm, nn.BatchNorm]);
    expect((net.stem.at(0) as nn.BatchNorm).weight).toBe(stem.weight);
  });

  test("a layer by itself; kinds keep their group; frozen ones stay so", () => {
    const sync = nn.convertSyncBatchNorm(new nn.BatchNorm2d(3), communicator) as nn.SyncBatchNorm;
    expect([sync.communicator, sync.affineGradients]).toEqual([communicator, "own"]);
    const renorm = nn.convert(sync, "BatchRenorm", { affineGradients: "sum" }) as nn.BatchRenorm;
    expect([renorm.communicator, renorm.affineGradients]).toEqual([communicator, "sum"]);
    const model = new nn.Sequential(new nn.BatchNorm2d(3));
    nn.freeze(model);
    nn.convertSyncBatchNorm(model, communicator).train();
    expect(model.at(0)!.training).toBe(false);
    nn.unfreeze(model);
    expect(model.at(0)!.training).toBe(true);
  });

  test("layers in place keep what follows them", () => {
    const options = [{ negativeSlope: 0.3, eps: 1e-3 }, { activation: "identity" as const }];
    const model = new nn.Sequential(...options.map((o) => new nn.InPlaceActivatedBatchNorm(4, o)));
    const before = model.parameters();
    const x = normal([3, 4, 2]).cast("float32");
    const run = () => [...model.forward(x.mul(2)).dataSync()];
    const wanted = run();
    nn.convertSyncBatchNorm(model, loopback);
    const [first, second] = [0, 1].map((i) => model.at(i) as nn.InPlaceActivatedBatchNorm);
    expect([first!.negativeSlope, first!.eps, second!.negativeSlope]).toEqual([0.3, 1e-3, 1]);
    expect(model.parameters().every((p, i) => p === before[i])).toBe(true);
    expect(run()).toEqual(wanted);
    nn.convertSyncBatchNorm(model, communicator, { affineGradients: "sum" });
    const made = model.at(0) as nn.InPlaceActivatedBatchNorm;
    expect([made.constructor, made.communicator, made.affineGradients, made.negativeSlope]).toEqual([
      nn.InPlaceActivatedBatchNorm,
      communicator,
      "sum",
      0.3,
    ]);
    expect(nn.reducedGradients(model)).toHaveLength(2);
  });

  test("what does not go changes nothing", () => {
    const model = new nn.Sequential(new nn.BatchNorm2d(3), new nn.BatchNorm2d(3, { activation: "relu" }));
    expect(() => nn.convertSyncBatchNorm(model, communicator)).toThrow(
      /SyncBatchNorm has no activation of its own; got 1 \(BatchNorm2d\) with activation "relu"/,
    );
    expect(model.at(0)).toBeInstanceOf(nn.BatchNorm2d);
    const plain = new nn.Sequential(new nn.BatchNorm2d(3));
    for (const bad of [undefined, {}, "mpi"]) {
      expect(() => nn.convertSyncBatchNorm(plain, bad as never)).toThrow(OptionError);
    }
    expect(() => nn.convertSyncBatchNorm(plain, communicator, { affineGradients: "all" as never })).toThrow(
      OptionError,
    );
    expect(() => nn.convertSyncBatchNorm(plain, communicator, { afineGradients: "sum" } as object)).toThrow(
      /Did you mean "affineGradients"/,
    );
    expect(() => nn.convertSyncBatchNorm(null as never, communicator)).toThrow(OptionError);
    expect(plain.at(0)).toBeInstanceOf(nn.BatchNorm2d);
  });
});
