import { describe, expect, test } from "vitest";
import { relativeError } from "../../../../tests/conformance/harness.js";
import { normal } from "../../../../tests/conformance/op_harness.js";
import type { Tensor } from "../../../autograd/index.js";
import { loopback } from "../../../base/communicator.js";
import { OptionError, ShapeError, StateError } from "../../../base/errors.js";
import { SGD } from "../../../optim/sgd.js";
import * as nn from "../../index.js";

class Net extends nn.Module {
  readonly stem = new nn.Sequential(new nn.Conv2d(3, 6, 2), new nn.BatchNorm2d(6, { eps: 1e-3, momentum: null }));
  readonly blocks = [new nn.BatchNorm2d(6), new nn.BatchNorm(6, { affine: false, momentum: 0.3 })];
  readonly headNorm = new nn.BatchNorm1d(6, { runningVariance: "biased", dtype: "float64" });

  override forward(x: Tensor): Tensor {
    let y = this.stem.forward(x);
    for (const block of this.blocks) y = block.forward(y);
    return this.headNorm.forward(y.mean([2, 3]).cast("float64"));
  }
}

const input = () => normal([4, 3, 3, 3]).cast("float32");
const state = (m: nn.Module) => Object.entries(m.stateDict()).map(([name, t]) => [name, t.toArray()]);
const kindsOf = (net: Net) => [net.stem.at(1)!, ...net.blocks, net.headNorm].map((m) => m.constructor.name);

function trained(): Net {
  const net = new Net();
  for (const p of net.parameters()) p.assign(normal(p.shape));
  net.forward(input());
  net.forward(input());
  return net;
}

describe("convert", () => {
  test("to GhostBatchNorm and back keeps state and output, at every depth", () => {
    const net = trained();
    const before = state(net);
    expect(nn.convert(net, "GhostBatchNorm", { virtualBatchSize: 2 })).toBe(net);
    expect(kindsOf(net)).toEqual(["GhostBatchNorm", "GhostBatchNorm", "GhostBatchNorm", "GhostBatchNorm"]);
    expect((net.stem.at(1) as nn.GhostBatchNorm).virtualBatchSize).toBe(2);
    expect(state(net)).toEqual(before);
    nn.convert(net, "BatchNorm");
    expect(kindsOf(net)).toEqual(["BatchNorm", "BatchNorm", "BatchNorm", "BatchNorm"]);
    expect(state(net)).toEqual(before);
    const first = net.stem.at(1) as nn.BatchNorm;
    expect([first.eps, first.momentum, first.training]).toEqual([1e-3, null, true]);
    expect((net.blocks[1] as nn.BatchNorm).momentum).toBe(0.3);
    expect(net.headNorm.conventions.runningVariance).toBe("biased");
    expect(net.headNorm.weight!.dtype).toBe("float64");
  });

  test("to SyncBatchNorm over the ranks of a group, and back", () => {
    const net = trained();
    const before = state(net);
    const communicator = { ...loopback, size: 1 };
    nn.convert(net, "SyncBatchNorm", { communicator });
    expect((net.headNorm as unknown as nn.SyncBatchNorm).communicator).toBe(communicator);
    expect(state(net)).toEqual(before);
    nn.convert(net, "BatchNorm");
    expect(kindsOf(net)).toEqual(["BatchNorm", "BatchNorm", "BatchNorm", "BatchNorm"]);
    expect(state(net)).toEqual(before);
  });

  test("to FrozenBatchNorm evaluates alike, and back it learns again", () => {
    const net = trained();
    const x = input();
    const want = net.eval().forward(x).toArray();
    nn.convert(net, "FrozenBatchNorm");
    expect(net.train().forward(x).toArray()).toEqual(want);
    expect(net.parameters().length).toBe(2);
    nn.convert(net, "BatchNorm2d", { from: ["FrozenBatchNorm"] });
    expect(net.stem.at(1)).toBeInstanceOf(nn.BatchNorm2d);
    expect(net.parameters().length).toBe(10);
    nn.convert(net, "BatchNorm1d");
    nn.convert(net, "BatchNorm2d");
    expect(kindsOf(net)[3]).toBe("BatchNorm2d");
    nn.convert(net, "BatchNorm");
    expect(kindsOf(net)[3]).toBe("BatchNorm2d");
    nn.convert(net, "GhostBatchNorm");
    nn.convert(net, "BatchNorm");
    expect(net.eval().forward(x).toArray()).toEqual(want);
  });

  test("to GroupNorm and back: affine parameters keep their identity, so the optimizer stays right", () => {
    const net = new nn.Sequential(new nn.BatchNorm2d(6, { eps: 0.01 }), new nn.BatchNorm2d(40), new nn.GroupNorm(1, 6));
    const optimizer = new SGD(net.parameters(), { lr: 0.1 });
    const { weight } = net.at(0) as nn.BatchNorm2d;
    weight!.assign([1, 2, 3, 4, 5, 6]);
    nn.convert(net, "GroupNorm");
    const [first, second, third] = [...net] as nn.GroupNorm[];
    expect([first!.numGroups, first!.eps, second!.numGroups, third!.numGroups]).toEqual([6, 0.01, 20, 1]);
    expect(first!.weight).toBe(weight);
    first!.forward(normal([2, 6, 2, 2]).cast("float32"));
    first!.backward(normal([2, 6, 2, 2]).cast("float32"));
    const before = weight!.toArray();
    optimizer.step();
    expect(weight!.toArray()).not.toEqual(before);
    nn.convert(net, "BatchNorm2d");
    expect([...net].map((m) => m.constructor.name)).toEqual(["BatchNorm2d", "BatchNorm2d", "GroupNorm"]);
    const back = net.at(0) as nn.BatchNorm2d;
    expect([back.weight, back.eps]).toEqual([weight, 0.01]);
    expect([back.runningMean!.toArray(), back.runningVar!.toArray()]).toEqual([
      new Array(6).fill(0),
      new Array(6).fill(1),
    ]);
    nn.convert(net, "BatchNorm", { from: ["GroupNorm"] });
    expect(net.at(2)).toBeInstanceOf(nn.BatchNorm);
  });

  test("channels last, features, and groups by number", () => {
    const last = nn.convert(new nn.BatchNorm(6, { axis: -1 }), "GroupNorm", { numGroups: 3 }) as nn.GroupNorm;
    expect([last.axis, last.numGroups]).toEqual([-1, 3]);
    expect(last.forward(normal([2, 4, 6]).cast("float32")).shape).toEqual([2, 4, 6]);
    const features = nn.convert(new nn.BatchNorm([4, 3]), "GroupNorm", { numGroups: 2 }) as nn.GroupNorm;
    expect(features.weight!.shape).toEqual([4, 3]);
    expect((nn.convert(features, "BatchNorm") as nn.BatchNorm).perFeature).toBe(true);
    expect((nn.convert(new nn.BatchNorm([4]), "FrozenBatchNorm") as nn.FrozenBatchNorm).weight.shape).toEqual([4]);
    expect(() => nn.convert(new nn.BatchNorm([4]), "GroupNorm")).toThrow(OptionError);
  });

  test("activations, a shared affine, and batch renormalization", () => {
    const active = () => new nn.Sequential(new nn.BatchNorm2d(4, { activation: "silu" }));
    const model = active();
    nn.convert(model, "GroupNorm", { numGroups: 2 });
    const x = normal([2, 4, 2, 2]).cast("float32");
    const want = new nn.Sequential(new nn.GroupNorm(2, 4), new nn.SiLU()).forward(x);
    expect(relativeError(model.forward(x).dataSync(), want.dataSync())).toBeLessThan(1e-6);
    nn.convert(model, "BatchNorm");
    expect(model.forward(x).toArray()).toEqual(active().forward(x).toArray());
    expect(() => nn.convert(model, "SyncBatchNorm")).toThrow(/no activation of its own; got 0 \(BatchNorm\) with/);

    const shared = new nn.BatchNorm([2, 3], { affineShape: [3] });
    shared.weight!.assign([1, 2, 3]);
    const { weight } = shared;
    const ghost = nn.convert(shared, "GhostBatchNorm") as nn.GhostBatchNorm;
    expect(ghost.weight).toBe(weight);
    const frozen = nn.convert(ghost, "FrozenBatchNorm") as nn.FrozenBatchNorm;
    expect(frozen.weight.toArray()).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);

    const renorm = nn.convert(new nn.BatchNorm1d(3), "BatchRenorm", { rMax: 2 }) as nn.BatchRenorm;
    expect([renorm.rMax, renorm.dMax]).toEqual([2, nn.renormSchedule.dMax]);
    expect(nn.convert(renorm, "BatchNorm1d")).toBeInstanceOf(nn.BatchNorm1d);
  });

  test("a layer in several places stays one, a subclass with its own forward stays, a frozen one thaws", () => {
    class Own extends nn.BatchNorm2d {
      override forward(x: Tensor): Tensor {
        return super.forward(x).neg();
      }
    }
    const norm = new nn.BatchNorm2d(3);
    const model = new nn.Sequential(norm, new nn.Residual(norm), new Own(3));
    nn.freeze(model);
    nn.convert(model, "GhostBatchNorm");
    const [first, second, third] = [...model];
    expect((second as nn.Residual).body).toBe(first);
    expect(third).toBeInstanceOf(Own);
    expect(model.train().at(0)!.training).toBe(false);
    nn.unfreeze(model);
    expect(first!.training).toBe(true);
    expect(first!.parameters().every((p) => p.requiresGrad)).toBe(true);
  });

  test("what it refuses changes nothing", () => {
    const model = new nn.Sequential(new nn.BatchNorm2d(6), new nn.BatchNorm2d(5));
    expect(() => nn.convert(model, "GroupNorm", { numGroups: 3 })).toThrow(ShapeError);
    expect(() => nn.convert(model, "GroupNorms" as "GroupNorm")).toThrow(/Did you mean "GroupNorm"/);
    expect(() => nn.convert(model, "FrozenBatchNorm", { numGroups: 3 })).toThrow(OptionError);
    expect(() => nn.convert(model, "GroupNorm", { from: ["Batch" as "BatchNorm"] })).toThrow(OptionError);
    expect(() => nn.convert(null as unknown as nn.Module, "GroupNorm")).toThrow(OptionError);
    model.append(new nn.BatchNorm2d(6, { trackRunningStats: false }));
    expect(() => nn.convert(model, "FrozenBatchNorm")).toThrow(/it replaces; got 2 \(BatchNorm2d\), which has none/);
    expect([...model].map((m) => m.constructor.name)).toEqual(["BatchNorm2d", "BatchNorm2d", "BatchNorm2d"]);

    class Hidden extends nn.Module {
      readonly #layer = new nn.BatchNorm2d(3);
      override namedChildren(): [string, nn.Module][] {
        return [["layer", this.#layer]];
      }
      override forward(x: Tensor): Tensor {
        return this.#layer.forward(x);
      }
    }
    expect(() => nn.convert(new Hidden(), "GroupNorm")).toThrow(StateError);
  });
});
