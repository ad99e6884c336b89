import { describe, expect, test } from "vitest";
import { relativeError } from "../../../../tests/conformance/harness.js";
import { normal } from "../../../../tests/conformance/op_harness.js";
import type { Tensor } from "../../../autograd/index.js";
import { OptionError, ShapeError, StateError } from "../../../base/errors.js";
import { Random } from "../../../base/random.js";
import * as nn from "../../index.js";

const random = new Random(8);

/** State away from where it begins: weights of either sign, variances of several sizes. */
function stir<M extends nn.Module>(model: M): M {
  for (const [name, t] of Object.entries(model.stateDict())) {
    if (t.dtype === "int32") continue;
    t.assign(t.dataSync().map(() => (name.endsWith("running_var") ? 0.1 + 4 * random.uniform() : random.normal())));
  }
  return model.eval();
}

type Layer = nn.Module & { bias: Tensor | null };
const o = { dtype: "float64" } as const;
const none = { ...o, bias: false };
const layers: [string, () => Layer, (options?: object) => nn.Module, number[]][] = [
  ["Linear", () => new nn.Linear(5, 4, o), (p) => new nn.BatchNorm1d(4, { ...o, ...p }), [3, 5]],
  ["Linear, channels last", () => new nn.Linear(5, 4, none), () => new nn.BatchNorm(4, { ...o, axis: -1 }), [2, 3, 5]],
  ["Linear, features", () => new nn.Linear(5, 4, o), () => new nn.BatchNorm([4], o), [3, 5]],
  [
    "Conv1d",
    () => new nn.Conv1d(4, 6, 3, { ...o, groups: 2 }),
    (p) => new nn.BatchNorm1d(6, { ...o, ...p }),
    [2, 4, 5],
  ],
  ["Conv1d, axis -2", () => new nn.Conv1d(4, 6, 3, none), () => new nn.BatchNorm(6, { ...o, axis: -2 }), [2, 4, 5]],
  ["Conv2d", () => new nn.Conv2d(3, 4, 2, none), (p) => new nn.BatchNorm2d(4, { ...o, ...p }), [2, 3, 3, 4]],
  ["Conv3d", () => new nn.Conv3d(2, 3, 2, o), (p) => new nn.BatchNorm3d(3, { ...o, ...p }), [1, 2, 3, 2, 3]],
  [
    "ConvTranspose1d",
    () => new nn.ConvTranspose1d(4, 6, 3, { ...o, groups: 2 }),
    (p) => new nn.BatchNorm1d(6, { ...o, ...p }),
    [2, 4, 3],
  ],
  [
    "ConvTranspose2d",
    () => new nn.ConvTranspose2d(6, 6, 2, { ...none, groups: 3, stride: 2 }),
    (p) => new nn.BatchNorm2d(6, { ...o, ...p }),
    [2, 6, 2, 3],
  ],
  ["ConvTranspose3d", () => new nn.ConvTranspose3d(2, 3, 2, o), () => new nn.FrozenBatchNorm(3, o), [1, 2, 2, 2, 2]],
  ["Conv2d, ranks", () => new nn.Conv2d(3, 4, 2, o), () => new nn.SyncBatchNorm(4, o), [2, 3, 3, 4]],
  ["Conv2d, renorm", () => new nn.Conv2d(3, 4, 2, o), () => new nn.BatchRenorm(4, o), [2, 3, 3, 4]],
  ["Linear, one affine", () => new nn.Linear(5, 4, o), () => new nn.BatchNorm(4, { ...o, affineShape: [1] }), [3, 5]],
  ["Conv2d, ghosts", () => new nn.Conv2d(3, 4, 2, o), () => new nn.GhostBatchNorm(4, { ...o, eps: 0.5 }), [2, 3, 3, 4]],
];

describe.each(layers)("fold: %s", (_name, layer, norm, shape) => {
  test.each([{}, { affine: false }, { eps: 0.3 }])("the output stays, %j", (options) => {
    const model = stir(new nn.Sequential(new nn.ReLU(), layer(), norm(options), new nn.Tanh()));
    const x = normal(shape);
    const before = model.forward(x).dataSync();
    expect(nn.fold(model)).toEqual({ folded: [{ layer: "1", norm: "2" }], left: [] });
    expect(model.at(2)).toBeInstanceOf(nn.Identity);
    expect(relativeError(model.forward(x).dataSync(), before)).toBeLessThan(1e-13);
    expect(nn.fold(model)).toEqual({ folded: [], left: [] });
  });

  test("foldInto, with and without the model", () => {
    for (const whole of [true, false]) {
      const [first, second] = [stir(layer()), stir(norm())];
      const model = new nn.Sequential(first, new nn.Identity(), second).eval();
      const x = normal(shape);
      const before = model.forward(x).dataSync();
      nn.foldInto(first, second, whole ? model : undefined);
      expect(model.at(2) instanceof nn.Identity).toBe(whole);
      expect(relativeError(first.forward(x).dataSync(), before)).toBeLessThan(1e-13);
      expect(relativeError(model.forward(x).dataSync(), before)).toBeLessThan(1e-13);
    }
  });
});

class Block extends nn.Module {
  readonly conv = new nn.Conv2d(3, 3, 1);
  readonly bn = new nn.BatchNorm2d(3);

  override forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x)).add(x);
  }
}

class Scaled extends nn.Linear {
  override forward(x: Tensor): Tensor {
    return super.forward(x).mul(2);
  }
}

const conv = () => new nn.Conv2d(3, 3, 1);
const bn = () => new nn.BatchNorm2d(3);

describe("fold over a model", () => {
  test("nested Sequentials, blocks in residuals, float32", () => {
    const inner = new nn.Sequential(new nn.Conv2d(3, 4, 3, { padding: 1, bias: false }));
    const block = new nn.Residual(new nn.Sequential(new nn.Conv2d(4, 4, 1), new nn.BatchNorm2d(4), new nn.ReLU()));
    const model = stir(new nn.Sequential(inner, new nn.Sequential(new nn.BatchNorm2d(4), block), new nn.ReLU()));
    const x = normal([2, 3, 4, 4]).cast("float32");
    const before = model.forward(x).dataSync();
    expect(nn.fold(model).folded).toEqual([
      { layer: "0.0", norm: "1.0" },
      { layer: "1.1.body.0", norm: "1.1.body.1" },
    ]);
    expect(relativeError(model.forward(x).dataSync(), before)).toBeLessThan(1e-6);
    expect(Object.keys(model.stateDict())).toEqual(["0.0.weight", "0.0.bias", "1.1.body.0.weight", "1.1.body.0.bias"]);
  });

  test.each(["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"] as const)(
    "a norm with the activation %s leaves that in its place",
    (activation) => {
      const build = () => {
        const [first, second] = [new nn.Linear(5, 4, o), new nn.BatchNorm1d(4, { ...o, activation })];
        return { first, second, model: stir(new nn.Sequential(first, second)) };
      };
      const x = normal([3, 5]);
      const [a, b] = [build(), build()];
      const before = [a, b].map(({ model }) => model.forward(x).dataSync());
      expect(nn.fold(a.model).folded.length).toBe(1);
      expect(a.model.at(1)!.stateDict()).toEqual({});
      nn.foldInto(b.first, b.second);
      for (const [i, { model }] of [a, b].entries()) {
        expect(relativeError(model.forward(x).dataSync(), before[i]!)).toBeLessThan(1e-13);
      }
    },
  );

  test("leaves what it must, and says why", () => {
    const shared = conv();
    const tied = [conv(), conv()] as const;
    (tied[0] as { weight: nn.Parameter }).weight = tied[1].weight;
    const model = stir(
      new nn.Sequential(
        bn(),
        shared,
        bn(),
        shared,
        new nn.ReLU(),
        bn(),
        tied[0],
        bn(),
        tied[1],
        conv(),
        new nn.BatchNorm(4, { axis: -1 }),
        new Block(),
      ),
    );
    const { folded, left } = nn.fold(model);
    expect(folded).toEqual([]);
    expect(left).toEqual([
      { norm: "0", reason: "nothing precedes it" },
      { norm: "2", reason: "it is about a Conv2d that is used in several places" },
      { norm: "5", reason: "it follows 4 (ReLU)" },
      { norm: "7", reason: "it is about a Conv2d that shares a parameter with another layer" },
      { norm: "10", reason: "a norm of 4 channels behind 3 outputs" },
      { norm: "11.bn", reason: "it stands in no Sequential" },
    ]);
    const odd = stir(
      new nn.Sequential(new Scaled(3, 3), new nn.BatchNorm1d(3), conv(), new nn.BatchNorm(3, { axis: -1 })),
    );
    expect(nn.fold(odd).left.map(({ reason }) => reason)).toEqual([
      "it follows 0 (Scaled)",
      "a norm on axis -1, where the layer has no channels",
    ]);
  });

  test("a parametrized weight becomes plain; under a checkpoint, by the names of the state", () => {
    const first = nn.spectralNorm(conv());
    const model = stir(new nn.Checkpoint(new nn.Sequential(first, bn())));
    const x = normal([1, 3, 2, 2]).cast("float32");
    const before = model.forward(x).dataSync();
    expect(nn.fold(model).folded).toEqual([{ layer: "0", norm: "1" }]);
    expect(relativeError(model.forward(x).dataSync(), before)).toBeLessThan(1e-6);
    expect(Object.keys(model.stateDict())).toEqual(["0.weight", "0.bias"]);
  });

  test("a model in training, and norms without running statistics", () => {
    expect(() => nn.fold(new nn.Sequential(conv(), bn()))).toThrow(/in evaluation.*Call eval\(\) first/);
    const model = stir(new nn.Sequential(conv(), bn(), conv(), new nn.BatchNorm2d(3, { trackRunningStats: false })));
    const x = normal([1, 3, 2, 2]).cast("float32");
    const before = model.forward(x).toArray();
    expect(() => nn.fold(model)).toThrow(/running statistics; got 3 \(BatchNorm2d\) with trackRunningStats: false/);
    expect(model.forward(x).toArray()).toEqual(before);
    expect(model.at(1)).toBeInstanceOf(nn.BatchNorm2d);
    expect(() => nn.fold(3 as unknown as nn.Module)).toThrow(OptionError);
  });
});

describe("foldInto", () => {
  test("two properties of one module, at the caller's word", () => {
    const block = stir(new Block());
    const x = normal([1, 3, 2, 2]).cast("float32");
    const before = block.forward(x).dataSync();
    nn.foldInto(block.conv, block.bn, block);
    expect(relativeError(block.forward(x).dataSync(), before)).toBeLessThan(1e-6);
    expect(block.bn).toBeInstanceOf(nn.Identity);
  });

  test("what it refuses, before it changes anything", () => {
    const [a, b, c, norm] = [conv(), conv(), conv(), bn()] as const;
    const model = new nn.Sequential(a, norm, b, new nn.ReLU(), c, c, bn(), new Block());
    const last = model.at(6)!;
    const state = JSON.stringify(Object.values(stir(model).stateDict()).map((t) => t.toArray()));
    const wide = new nn.BatchNorm2d(4).eval();
    expect(() => nn.foldInto(a, norm.train())).toThrow(StateError);
    norm.eval();
    expect(() => nn.foldInto(a, wide)).toThrow(ShapeError);
    expect(() => nn.foldInto(a, new nn.BatchNorm([3, 2, 2]).eval())).toThrow(/for each feature of \[3,2,2\]/);
    expect(() => nn.foldInto(a, new nn.BatchNorm2d(3, { trackRunningStats: false }).eval())).toThrow(StateError);
    expect(() => nn.foldInto(norm, a)).toThrow(/got BatchNorm2d. The layer comes first/);
    expect(() => nn.foldInto(a, new nn.GroupNorm(1, 3))).toThrow(OptionError);
    expect(() => nn.foldInto(conv().eval(), norm, model)).toThrow(/of the model; got Conv2d from elsewhere/);
    expect(() => nn.foldInto(b, norm, model)).toThrow(/got a Conv2d behind the norm/);
    expect(() => nn.foldInto(c, last, model)).toThrow(/used once; got a Conv2d that is used in several places/);
    expect(() => nn.foldInto(b, last, model)).toThrow(
      /straight into the norm; got 3 \(ReLU\), 4 \(Conv2d\), 4 \(Conv2d\) between/,
    );
    expect(() => nn.foldInto(a, (model.at(7) as Block).bn, model)).toThrow(/stands in no Sequential with the norm/);
    expect(JSON.stringify(Object.values(model.stateDict()).map((t) => t.toArray()))).toBe(state);
    nn.foldInto(a, norm, model);
  });
});
