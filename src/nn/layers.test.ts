import { describe, expect, test } from "vitest";
import { testOnDevice } from "../../tests/conformance/on_device.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { noGrad, type Tensor, tensor } from "../autograd/index.js";
import { DeviceError, DTypeError, FormatError, OptionError } from "../base/errors.js";
import { manualSeed } from "../base/random.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import * as nn from "./index.js";
import * as norms from "./norm/index.js";

interface Contract {
  readonly name: string;
  /** A new layer with these options after its arguments. */
  readonly make: (options?: object) => nn.Module;
  /** Inputs of one forward in a floating-point type. */
  readonly inputs: (dtype: "float32" | "float64") => Tensor[];
  /** Names and shapes of the state. */
  readonly state?: Record<string, number[]>;
}

const floats =
  (...shapes: number[][]) =>
  (dtype: "float32" | "float64") =>
    shapes.map((s) => normal(s).cast(dtype));
const image = floats([2, 4, 6, 6]);
const self = (shape: number[]) => (dtype: "float32" | "float64") => {
  const x = normal(shape).cast(dtype);
  return [x, x, x];
};
const pair = floats([3, 4], [3, 4]);
const attentionState = { "out_proj.weight": [8, 8], "out_proj.bias": [8], in_proj_bias: [24] };

const contracts: Contract[] = [
  { name: "Linear", make: (o) => new nn.Linear(5, 3, o), inputs: floats([2, 5]), state: { weight: [3, 5], bias: [3] } },
  {
    name: "Conv1d",
    make: (o) => new nn.Conv1d(4, 6, 3, { groups: 2, ...o }),
    inputs: floats([2, 4, 7]),
    state: { weight: [6, 2, 3], bias: [6] },
  },
  {
    name: "Conv2d",
    make: (o) => new nn.Conv2d(4, 3, [3, 2], { padding: 1, ...o }),
    inputs: image,
    state: { weight: [3, 4, 3, 2], bias: [3] },
  },
  {
    name: "Conv3d",
    make: (o) => new nn.Conv3d(2, 3, 2, o),
    inputs: floats([1, 2, 3, 4, 4]),
    state: { weight: [3, 2, 2, 2, 2], bias: [3] },
  },
  {
    name: "ConvTranspose2d",
    make: (o) => new nn.ConvTranspose2d(4, 3, 3, { stride: 2, ...o }),
    inputs: image,
    state: { weight: [4, 3, 3, 3], bias: [3] },
  },
  {
    name: "Embedding",
    make: (o) => new nn.Embedding(5, 3, o),
    inputs: () => [
      tensor(
        [
          [0, 4],
          [2, 2],
        ],
        { dtype: "int32" },
      ),
    ],
    state: { weight: [5, 3] },
  },
  {
    name: "MultiheadAttention",
    make: (o) => new nn.MultiheadAttention(8, 2, o),
    inputs: self([5, 2, 8]),
    state: { in_proj_weight: [24, 8], ...attentionState },
  },
  {
    name: "MultiheadAttention with kdim",
    make: (o) => new nn.MultiheadAttention(8, 2, { kdim: 3, vdim: 5, ...o }),
    inputs: floats([4, 2, 8], [6, 2, 3], [6, 2, 5]),
    state: { q_proj_weight: [8, 8], k_proj_weight: [8, 3], v_proj_weight: [8, 5], ...attentionState },
  },
  { name: "MaxPool1d", make: (o) => new nn.MaxPool1d(2, o), inputs: floats([2, 3, 8]) },
  { name: "MaxPool2d", make: (o) => new nn.MaxPool2d(2, o), inputs: image },
  { name: "MaxPool3d", make: (o) => new nn.MaxPool3d(2, o), inputs: floats([1, 2, 4, 4, 4]) },
  { name: "AvgPool1d", make: (o) => new nn.AvgPool1d(2, o), inputs: floats([2, 3, 8]) },
  { name: "AvgPool2d", make: (o) => new nn.AvgPool2d(2, o), inputs: image },
  { name: "AvgPool3d", make: (o) => new nn.AvgPool3d(2, o), inputs: floats([1, 2, 4, 4, 4]) },
  { name: "AdaptiveAvgPool1d", make: (o) => new nn.AdaptiveAvgPool1d(3, o), inputs: floats([2, 3, 8]) },
  { name: "AdaptiveAvgPool2d", make: (o) => new nn.AdaptiveAvgPool2d([2, 3], o), inputs: image },
  { name: "AdaptiveAvgPool3d", make: (o) => new nn.AdaptiveAvgPool3d(1, o), inputs: floats([1, 2, 4, 4, 4]) },
  { name: "Flatten", make: (o) => new nn.Flatten(1, -1, o), inputs: image },
  { name: "Identity", make: (o) => new nn.Identity(o), inputs: image },
  { name: "Dropout", make: (o) => new nn.Dropout(0.3, o), inputs: image },
  { name: "ReLU", make: (o) => new nn.ReLU(o), inputs: image },
  { name: "LeakyReLU", make: (o) => new nn.LeakyReLU(0.1, o), inputs: image },
  { name: "GELU", make: (o) => new nn.GELU(o), inputs: image },
  { name: "SiLU", make: (o) => new nn.SiLU(o), inputs: image },
  { name: "Sigmoid", make: (o) => new nn.Sigmoid(o), inputs: image },
  { name: "Tanh", make: (o) => new nn.Tanh(o), inputs: image },
  { name: "Softmax", make: (o) => new nn.Softmax(1, o), inputs: image },
  { name: "LogSoftmax", make: (o) => new nn.LogSoftmax(-1, o), inputs: image },
  {
    name: "CrossEntropyLoss",
    make: (o) => new nn.CrossEntropyLoss(o),
    inputs: (dtype) => [normal([3, 4]).cast(dtype), tensor([0, 3, 1], { dtype: "int32" })],
  },
  { name: "MSELoss", make: (o) => new nn.MSELoss(o), inputs: pair },
  { name: "L1Loss", make: (o) => new nn.L1Loss(o), inputs: pair },
  { name: "HuberLoss", make: (o) => new nn.HuberLoss(o), inputs: pair },
  { name: "BCEWithLogitsLoss", make: (o) => new nn.BCEWithLogitsLoss(o), inputs: pair },
];

describe.each(contracts)("$name", ({ make, inputs, state = {} }) => {
  test("has the state that torch has, loads it, and then computes the same", () => {
    const [one, two] = [make(), make()];
    const dict = one.stateDict();
    expect(Object.fromEntries(Object.entries(dict).map(([k, t]) => [k, t.shape]))).toEqual(state);
    two.loadStateDict(dict);
    const xs = inputs("float32");
    expect(
      two
        .eval()
        .forward(...xs)
        .dataSync(),
    ).toEqual(
      one
        .eval()
        .forward(...xs)
        .dataSync(),
    );
    if (Object.keys(state).length > 0) expect(() => two.loadStateDict({})).toThrow(FormatError);
  });

  test("computes in float64 as in float32, made so or cast so, and passes gradients in its type", () => {
    const one = make({ dtype: "float64" }).eval();
    const two = make();
    two.loadStateDict(one.stateDict());
    const xs = inputs("float64");
    const y = one.forward(...xs);
    expect(y.dtype).toBe("float64");
    const y32 = two.eval().forward(...xs.map((x) => (x.dtype === "int32" ? x : x.cast("float32"))));
    expect(y32.dtype).toBe("float32");
    for (const [i, v] of y32.dataSync().entries()) expect(v).toBeCloseTo(y.dataSync()[i]!, 4);
    expect(two.to("float64").forward(...xs).dtype).toBe("float64");
    if (one.parameters().length === 0) return;
    y.backward(normal(y.shape));
    for (const p of one.parameters()) {
      expect(p.grad!.dtype).toBe("float64");
      expect(p.grad!.shape).toEqual(p.shape);
    }
  });

  test("train and eval switch it, and evaluation does not depend on random numbers", () => {
    const layer = make();
    expect(layer.training).toBe(true);
    expect(layer.eval().training).toBe(false);
    const xs = inputs("float32");
    expect(layer.forward(...xs).dataSync()).toEqual(layer.forward(...xs).dataSync());
    expect(layer.train().training).toBe(true);
  });

  test("equal seeds make equal layers", () => {
    const made = [0, 1].map(() => {
      manualSeed(11);
      return make()
        .parameters()
        .map((p) => p.dataSync());
    });
    expect(made[0]).toEqual(made[1]);
  });

  test("backward gives the gradient to its input", () => {
    const layer = make();
    const xs = inputs("float64");
    layer.to("float64");
    const y = layer.forward(...xs);
    if (xs[0]!.dtype === "int32") return;
    const dx = layer.backward(normal(y.shape));
    expect(dx.shape).toEqual(xs[0]!.shape);
    expect(noGrad(() => layer.forward(...xs)).requiresGrad).toBe(false);
  });

  test("gives all its memory back", () => {
    const before = heap.stats.liveBytes;
    scope(() => {
      const layer = make();
      const y = layer.forward(...inputs("float32"));
      if (y.requiresGrad) y.sum().backward();
      layer.dispose();
    });
    expect(heap.stats.liveBytes).toBe(before);
  });

  test("refuses options it does not have, other types and other devices", () => {
    expect(() => make({ dtypo: "float32" })).toThrow(/Did you mean "dtype"/);
    expect(() => make({ dtypo: "float32" })).toThrow(OptionError);
    expect(() => make({ dtype: "int32" })).toThrow(DTypeError);
    expect(() => make({ device: "tpu" })).toThrow(DeviceError);
  });
});

const block = () => [new nn.Conv2d(4, 4, 3, { padding: 1, bias: false }), new nn.BatchNorm2d(4), new nn.ReLU()];
/** Layers that are made of others, or whose contract another one stands for. */
const others: Pick<Contract, "name" | "make" | "inputs">[] = [
  { name: "Sequential", make: () => new nn.Sequential(...block()), inputs: image },
  { name: "Residual", make: () => new nn.Residual(new nn.Sequential(...block())), inputs: image },
  { name: "Checkpoint", make: () => new nn.Checkpoint(new nn.Sequential(...block())), inputs: image },
  { name: "ConvTranspose1d", make: (o) => new nn.ConvTranspose1d(4, 3, 3, o), inputs: floats([2, 4, 6]) },
  { name: "ConvTranspose3d", make: (o) => new nn.ConvTranspose3d(2, 3, 2, o), inputs: floats([1, 2, 3, 3, 3]) },
  { name: "weightNorm", make: (o) => nn.weightNorm(new nn.Conv2d(4, 3, 3, o)), inputs: image },
  { name: "weightStandardization", make: (o) => nn.weightStandardization(new nn.Conv2d(4, 3, 3, o)), inputs: image },
  { name: "spectralNorm", make: (o) => nn.spectralNorm(new nn.Conv2d(4, 3, 3, o)), inputs: image },
];

describe("on webgpu", () => {
  for (const { name, make, inputs } of [...contracts, ...others]) {
    const [first, ...rest] = inputs("float32");
    const dy = normal([4096]).cast("float32");
    testOnDevice({
      kind: "layer",
      name,
      tolerance: 2e-6,
      run: (device) => {
        manualSeed(5);
        const layer = make().to(device);
        const x = first!.to(device).detach();
        x.requiresGrad = x.dtype !== "int32";
        const y: Tensor = layer.forward(x, ...rest.map((t) => t.to(device)));
        if (y.requiresGrad) y.backward(dy.narrow(0, 0, y.size).reshape(y.shape).to(device));
        return [y, ...[x, ...layer.parameters()].flatMap((t) => (t.grad ? [t.grad] : []))];
      },
    });
  }
});

test("every layer that nn exports is in the contract, or has its own test", () => {
  const elsewhere = new Set(["Module", "Parameter", ...others.map(({ name }) => name)]);
  const covered = new Set(contracts.map((c) => c.name));
  const isLayer = (v: unknown) => typeof v === "function" && v.prototype instanceof nn.Module;
  const missing = Object.entries(nn)
    .filter(([name, v]) => isLayer(v) && !covered.has(name) && !elsewhere.has(name) && !(name in norms))
    .map(([name]) => name);
  expect(missing).toEqual([]);
});

describe("arguments", () => {
  test.each([
    ["Linear", () => new nn.Linear(0, 3), /Linear inFeatures must be a whole number of at least 1; got 0/],
    [
      "Linear input",
      () => new nn.Linear(4, 3).forward(normal([2, 5])),
      /takes \[\.\.\., 4\]; got \[2, 5\].*nn\.Flatten/,
    ],
    ["Linear type", () => new nn.Linear(5, 3).forward(normal([2, 5])), /one floating-point type; got float64, float32/],
    ["Conv2d groups", () => new nn.Conv2d(3, 4, 3, { groups: 2 }), /groups must divide.*groups 2 for 3 and 4/],
    ["Conv2d kernel", () => new nn.Conv2d(3, 4, [3, 3, 3]), /kernelSize.*list of 2; got \[3, 3, 3\]/],
    ["Conv2d padding", () => new nn.Conv2d(3, 4, 3, { padding: "sane" as "same" }), /"same" or "valid"; got "sane"/],
    ["Conv2d same", () => new nn.Conv2d(3, 4, 3, { padding: "same", stride: 2 }), /"same" needs stride 1/],
    ["Dropout", () => new nn.Dropout(-0.1), /Dropout p must be a number in \[0, 1\]; got -0.1/],
    ["GELU", () => new nn.GELU({ approximate: "tan" as "tanh" }), /Did you mean "tanh"/],
    ["HuberLoss", () => new nn.HuberLoss({ delta: 0 }), /delta must be a finite number above 0; got 0/],
    ["MSELoss", () => new nn.MSELoss().forward(normal([3, 1]), normal([3])), /one shape; got \[3, 1\] and \[3\]/],
    ["reduction", () => new nn.L1Loss({ reduction: "men" as "mean" }), /Did you mean "mean"/],
    ["Embedding", () => new nn.Embedding(5, 3, { paddingIdx: 5 }), /paddingIdx must lie in \[-5, 4\]/],
    ["attention heads", () => new nn.MultiheadAttention(8, 3), /evenly among its heads; got embedDim 8 and numHeads 3/],
    ["LeakyReLU", () => new nn.LeakyReLU(Number.NaN), /negativeSlope must be a finite number; got NaN/],
  ])("%s", (_what, call, text) => {
    expect(call).toThrow(text);
  });

  test("Embedding's padding row begins as zeros, counts from the end when negative, and is not learned", () => {
    const layer = new nn.Embedding(4, 2, { paddingIdx: -1 });
    expect(layer.paddingIdx).toBe(3);
    expect((layer.weight.toArray() as number[][])[3]).toEqual([0, 0]);
    layer
      .forward(tensor([3, 0], { dtype: "int32" }))
      .sum()
      .backward();
    expect(layer.weight.grad!.toArray()).toEqual([
      [1, 1],
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
  });
});
