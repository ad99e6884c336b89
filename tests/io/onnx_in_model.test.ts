import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, describe, expect, it } from "vitest";
import {
  DTypeError,
  type EvenkeelError,
  FormatError,
  memoryStats,
  nn,
  noGrad,
  OptionError,
  OutOfMemoryError,
  optim,
  Random,
  randn,
  ShapeError,
  scope,
  type Tensor,
  tensor,
  UnsupportedKernel,
} from "../../src/index.js";
import { elementTypes } from "../../src/io/elements.js";
import { loadOnnx } from "../../src/io/index.js";
import { SparseTensorSchema } from "../../src/io/onnx/proto/onnx_pb.js";
import { tensorProto } from "../../src/io/onnx/tensor_proto.js";
import { heap } from "../../src/memory/heap.js";
import { bytesOf, type GraphInit, graph, type ModelInit, model, modelBytes, type Numbers } from "./onnx_model.js";

const floats = (shape: number[], data: number[]): Numbers => ({ type: "float32", shape, data });
const normal = (random: Random, ...shape: number[]): Numbers =>
  floats(
    shape,
    Array.from({ length: shape.reduce((n, d) => n * d, 1) }, () => Math.fround(random.normal())),
  );
const load = (init: ModelInit, options?: Parameters<typeof loadOnnx>[1]) => loadOnnx(modelBytes(init), options);
const one = (nodes: GraphInit["nodes"], more: Partial<ModelInit> = {}): ModelInit => ({
  nodes,
  inputs: { x: { shape: ["n", 3] } },
  ...more,
});
const x23 = (): Tensor => tensor([1, 2, 3, -4, -5, -6], { shape: [2, 3] });

/** A small convolutional classifier as an exporter writes one. */
function classifier(random: Random): ModelInit {
  return {
    inputs: { image: { shape: ["batch", 1, 6, 6] } },
    nodes: [
      { op: "Conv", inputs: ["image", "conv.weight", "conv.bias"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1] } },
      {
        op: "BatchNormalization",
        inputs: ["c", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
        outputs: ["b"],
      },
      { op: "Relu", inputs: ["b"], outputs: ["r"] },
      { op: "GlobalAveragePool", inputs: ["r"], outputs: ["p"] },
      { op: "Flatten", inputs: ["p"], outputs: ["features"] },
      { op: "Gemm", inputs: ["features", "fc.weight", "fc.bias"], outputs: ["logits"], attributes: { transB: 1 } },
    ],
    outputs: ["logits"],
    initializers: {
      "conv.weight": normal(random, 4, 1, 3, 3),
      "conv.bias": normal(random, 4),
      "bn.weight": floats([4], [1, 1, 1, 1]),
      "bn.bias": floats([4], [0, 0, 0, 0]),
      "bn.running_mean": floats([4], [0.1, 0.2, 0.3, 0.4]),
      "bn.running_var": floats([4], [1, 2, 3, 4]),
      "fc.weight": normal(random, 7, 4),
      "fc.bias": normal(random, 7),
    },
  };
}

describe("a module", () => {
  it("has the file's names for parameters and statistics, and gives what it runs by name", () => {
    const m = load(classifier(new Random(1)));
    expect(m.inputNames).toEqual(["image"]);
    expect(m.outputNames).toEqual(["logits"]);
    expect(m.inputs).toEqual([{ name: "image", type: "float32", shape: ["batch", 1, 6, 6] }]);
    expect(m.namedParameters().map(([n]) => n)).toEqual([
      "conv.weight",
      "conv.bias",
      "bn.weight",
      "bn.bias",
      "fc.weight",
      "fc.bias",
    ]);
    expect(m.namedBuffers().map(([n]) => n)).toEqual(["bn.running_mean", "bn.running_var"]);
    expect(m.training).toBe(false);
    const x = randn([2, 1, 6, 6], { random: new Random(5) });
    expect([...m.forward(x).dataSync()]).toEqual([...m.run({ image: x }).logits!.dataSync()]);
    expect(m.valueNames).toEqual(["image", "c", "b", "r", "p", "features", "logits"]);
    const weights = m.namedParameters().filter(([, p]) => p.noWeightDecay);
    expect(weights.map(([n]) => n)).toEqual(["bn.weight", "bn.bias"]);
  });

  it("is fine-tuned with another head, its statistics moving by ONNX's momentum", () => {
    const random = new Random(2);
    const body = load(classifier(random), { outputs: ["features"] });
    expect(body.namedParameters().map(([n]) => n)).not.toContain("fc.weight");
    const net = new nn.Sequential(body, new nn.Linear(4, 2));
    expect(net.namedParameters().map(([n]) => n)).toContain("0.conv.weight");
    const x = randn([16, 1, 6, 6], { random });
    const brightness = x.mean([1, 2, 3]).dataSync();
    const target = tensor(Int32Array.from(brightness, (v) => (v > 0 ? 1 : 0)));
    const loss = new nn.CrossEntropyLoss();
    const sgd = new optim.SGD(net.parameters(), { lr: 0.2, momentum: 0.9 });
    net.train();
    const before = [...body.namedBuffers()[0]![1].dataSync()];
    const statistics = noGrad(() =>
      scope(() => [
        ...load(classifier(new Random(2)), { outputs: ["c"] })
          .forward(x)
          .mean([0, 2, 3])
          .dataSync(),
      ]),
    );
    const losses: number[] = [];
    for (let step = 0; step < 60; step++) {
      scope(() => {
        sgd.zeroGrad();
        const l = loss.forward(net.forward(x), target);
        l.backward();
        sgd.step();
        losses.push(l.item());
      });
      if (step === 0) {
        const moved = [...body.namedBuffers()[0]![1].dataSync()];
        for (const [i, v] of moved.entries()) expect(v).toBeCloseTo(0.9 * before[i]! + 0.1 * statistics[i]!, 5);
      }
    }
    expect(losses[59]!).toBeLessThan(losses[0]! / 2);
    net.eval();
    const state = net.stateDict();
    const again = new nn.Sequential(load(classifier(random), { outputs: ["features"] }), new nn.Linear(4, 2));
    again.loadStateDict(state);
    again.eval();
    expect([...again.forward(x).dataSync()]).toEqual([...net.forward(x).dataSync()]);
  });

  it("leaves nothing behind: a run keeps its outputs alone, and dispose gives all back", () => {
    const before = memoryStats().liveBlocks;
    const m = load(classifier(new Random(1)));
    const x = randn([2, 1, 6, 6]);
    const loaded = memoryStats().liveBlocks;
    for (let i = 0; i < 3; i++) noGrad(() => m.run({ image: x })).logits!.dispose();
    expect(memoryStats().liveBlocks).toBe(loaded);
    m.dispose();
    x.dispose();
    expect(memoryStats().liveBlocks).toBe(before);
  });

  it("needs no more memory than two of its values at a time when nothing is recorded", () => {
    const nodes = Array.from({ length: 40 }, (_, i) => ({
      op: "Neg",
      inputs: [i === 0 ? "x" : `t${i}`],
      outputs: [`t${i + 1}`],
    }));
    const m = load({ nodes, inputs: { x: {} }, outputs: ["t40"] });
    const x = randn([1 << 16]);
    const { bytes } = heap.measure(() => noGrad(() => m.run({ x })).t40!.dispose());
    // A value of 256 KiB beside the one it is made from.
    expect(bytes).toBeLessThan(2.1 * 4 * x.size);
    const y = noGrad(() => m.forward(x));
    expect([...y.dataSync().slice(0, 5)]).toEqual([...x.dataSync().slice(0, 5)]);
  });

  it("casts to double whole, constants too", () => {
    const m = load(
      one(
        [
          { op: "Constant", outputs: ["c"], attributes: { value: floats([3], [0.1, 0.2, 0.3]) } },
          { op: "Mul", inputs: ["x", "c"], outputs: ["t"] },
          { op: "Add", inputs: ["t", "w"] },
        ],
        { initializers: { w: floats([3], [1, 2, 3]) } },
      ),
    );
    m.to("float64");
    const y = m.forward(x23().to("float64"));
    expect(y.dtype).toBe("float64");
    expect(y.toArray()).toEqual([
      [1 + Math.fround(0.1), 2 + 2 * Math.fround(0.2), 3 + 3 * Math.fround(0.3)],
      [1 - 4 * Math.fround(0.1), 2 - 5 * Math.fround(0.2), 3 - 6 * Math.fround(0.3)],
    ]);
  });

  it("drops in training alone, as the file says in evaluation", () => {
    const m = load(one([{ op: "Dropout", inputs: ["x", "ratio"] }], { initializers: { ratio: floats([], [0.5]) } }));
    const x = randn([64, 3]);
    expect([...m.forward(x).dataSync()]).toEqual([...x.dataSync()]);
    m.train();
    const y = [...m.forward(x).dataSync()];
    const zeros = y.filter((v) => v === 0).length;
    expect(zeros).toBeGreaterThan(50);
    expect(zeros).toBeLessThan(142);
    expect(y.every((v, i) => v === 0 || Math.abs(v - 2 * x.dataSync()[i]!) < 1e-6)).toBe(true);
  });

  it("takes initializers that reach an operator through a transpose or identity as parameters, single numbers not", () => {
    const m = load({
      nodes: [
        { op: "Transpose", inputs: ["w"], outputs: ["wt"] },
        { op: "MatMul", inputs: ["x", "wt"], outputs: ["a"] },
        { op: "Mul", inputs: ["a", "half"], outputs: ["b"] },
        { op: "Identity", inputs: ["w"], outputs: ["tied"] },
        { op: "MatMul", inputs: ["b", "tied"] },
      ],
      inputs: { x: {} },
      initializers: { w: floats([2, 3], [1, 2, 3, 4, 5, 6]), half: floats([], [0.5]) },
    });
    expect(m.namedParameters().map(([n]) => n)).toEqual(["w"]);
    const y = m.forward(x23());
    y.backward(tensor(new Float32Array(6).fill(1), { shape: [2, 3] }));
    expect(
      m
        .parameters()[0]!
        .grad!.dataSync()
        .some((v) => v !== 0),
    ).toBe(true);
  });
});

describe("inputs and outputs", () => {
  const ids: ModelInit = {
    nodes: [
      { op: "Gather", inputs: ["table", "ids"], outputs: ["e"] },
      { op: "Add", inputs: ["ids", "one"], outputs: ["next"] },
      { op: "And", inputs: ["mask", "mask"], outputs: ["both"] },
    ],
    inputs: { ids: { type: "int64", shape: ["n"] }, mask: { type: "bool", shape: ["n"] } },
    outputs: ["e", "next", "both"],
    initializers: { table: floats([3, 2], [1, 2, 3, 4, 5, 6]), one: { type: "int64", shape: [], data: [1] } },
  };
  const int = (data: number[]) => tensor(data, { dtype: "int32" });

  it("takes int32 for int64 and truth values, and gives int32", () => {
    const m = load(ids);
    const made = m.run({ ids: int([2, 0]), mask: int([5, 0]) });
    expect(made.e!.toArray()).toEqual([
      [5, 6],
      [1, 2],
    ]);
    expect(made.next!.dtype).toBe("int32");
    expect(made.next!.toArray()).toEqual([3, 1]);
    expect(made.both!.toArray()).toEqual([1, 0]);
    expect(() => m.run({ ids: int([2 ** 31 - 1]), mask: int([1]) })).toThrow(
      /Indices lie in \[-3, 2\]; got 2147483647 \(node 0 \(Gather\)\)/,
    );
    const big = load(ids, { outputs: ["next"] });
    expect(() => big.run({ ids: int([2 ** 31 - 1]), mask: int([1]) })).toThrow(
      /int32 and must lie in its range; got 2147483648 at place 0 of output "next"/,
    );
  });

  it.each<[string, (m: ReturnType<typeof load>) => unknown, typeof EvenkeelError, RegExp]>([
    [
      "a missing input",
      (m) => m.run({ ids: int([1]) }),
      OptionError,
      /inputs are "ids", "mask"; got nothing for "mask"/,
    ],
    [
      "an unknown one",
      (m) => m.run({ ids: int([1]), masks: int([1]) }),
      OptionError,
      /got "masks". Did you mean "mask"/,
    ],
    [
      "one of another shape",
      (m) => m.run({ ids: int([1]).reshape([1, 1]), mask: int([1]) }),
      ShapeError,
      /Input "ids" is int64 \[n\]; got int32 \[1, 1\]/,
    ],
    [
      "lengths that do not agree",
      (m) => m.run({ ids: int([1]), mask: int([1, 2]) }),
      ShapeError,
      /n is 1 from input "ids"; got int32 \[2\]/,
    ],
    [
      "floats for whole numbers",
      (m) => m.run({ ids: tensor([1]), mask: int([1]) }),
      DTypeError,
      /Input "ids" is int64 \[n\]; got float32/,
    ],
    ["no tensor", (m) => m.run({ ids: 3 as never, mask: int([1]) }), DTypeError, /Input "ids" .* got 3/],
    ["a tensor for all", (m) => m.run(int([1]) as never), OptionError, /run takes { ids, mask }/],
    ["too few for forward", (m) => m.forward(int([1])), OptionError, /forward takes 2 inputs: ids, mask; got 1/],
  ])("refuses %s", (_what, call, Kind, text) => {
    const m = load(ids);
    expect(() => call(m)).toThrow(Kind);
    expect(() => call(m)).toThrow(text);
  });

  it("holds int64 exactly inside", () => {
    const m = load({
      nodes: [
        { op: "Mul", inputs: ["ids", "large"], outputs: ["a"] },
        { op: "Sub", inputs: ["a", "a1"], outputs: ["b"] },
      ],
      inputs: { ids: { type: "int64" } },
      outputs: ["b"],
      initializers: {
        large: { type: "int64", shape: [], data: [2 ** 40] },
        a1: { type: "int64", shape: [], data: [3 * 2 ** 40 - 7] },
      },
    });
    expect(m.forward(int([3])).toArray()).toEqual([7]);
    expect(() => m.forward(int([2 ** 30]))).toThrow(
      /Results of type int64 lie in .* got 1\.18\d*e\+21 \(node 0 \(Mul\)\)/,
    );
  });

  it("gives outputs that are inputs or parameters as tensors of their own", () => {
    const m = load({
      nodes: [
        { op: "Identity", inputs: ["x"] },
        { op: "Add", inputs: ["x", "w"], outputs: ["z"] },
      ],
      inputs: { x: {} },
      outputs: ["y", "w", "z", "x"],
      initializers: { w: floats([1], [2]) },
    });
    const x = tensor([1]);
    const made = m.run({ x });
    for (const t of Object.values(made)) t.dispose();
    expect(x.item()).toBe(1);
    expect(m.parameters()[0]!.item()).toBe(2);
  });
});

describe("graphs", () => {
  it("runs either branch of If, constant or not, with values from around it", () => {
    const branch = (op: string) =>
      graph({
        nodes: [{ op, inputs: ["x", "k"], outputs: ["r"] }],
        outputs: ["r"],
        initializers: { k: floats([], [3]) },
      });
    const attributes = { then_branch: branch("Add"), else_branch: branch("Mul") };
    const m = load({
      nodes: [
        { op: "ReduceMax", inputs: ["x"], outputs: ["top"], attributes: { keepdims: 0 } },
        { op: "Greater", inputs: ["top", "limit"], outputs: ["c"] },
        { op: "If", inputs: ["c"], outputs: ["y"], attributes },
      ],
      inputs: { x: {} },
      initializers: { limit: floats([], [0]) },
    });
    expect(m.forward(tensor([1, 2])).toArray()).toEqual([4, 5]);
    expect(m.forward(tensor([-1, -2])).toArray()).toEqual([-3, -6]);
    const fixed = load({
      nodes: [{ op: "If", inputs: ["c"], outputs: ["y"], attributes }],
      inputs: { x: {} },
      initializers: { c: { type: "bool", shape: [], data: [0] } },
    });
    expect(fixed.forward(tensor([2])).toArray()).toEqual([6]);
  });

  it("puts functions in the place of their calls, attributes by reference", () => {
    const m = load({
      opset: 18,
      domains: { own: 1 },
      nodes: [
        { op: "Twice", domain: "own", inputs: ["x"], outputs: ["t"], attributes: { slope: { float: 0.5 } } },
        { op: "Twice", domain: "own", inputs: ["t"] },
      ],
      inputs: { x: {} },
      functions: [
        {
          name: "Twice",
          domain: "own",
          inputNames: ["a"],
          attributes: ["slope"],
          outputs: ["b"],
          nodes: [
            { op: "LeakyRelu", inputs: ["a"], outputs: ["l"], attributes: { alpha: { ref: "slope" } } },
            { op: "Inner", domain: "own", inputs: ["l"], outputs: ["b"] },
          ],
        },
        {
          name: "Inner",
          domain: "own",
          inputNames: ["a"],
          outputs: ["b"],
          nodes: [{ op: "Add", inputs: ["a", "a"], outputs: ["b"] }],
        },
      ],
    });
    // The second call has no slope, so LeakyRelu's own of 0.01 counts.
    expect(m.forward(tensor([1, -1], { dtype: "float64" })).toArray()).toEqual([4, expect.closeTo(-0.02, 8)]);
  });

  it("takes nodes in any order, and leaves out what leads to no output", () => {
    const m = load(
      one([
        { op: "Neg", inputs: ["t"] },
        { op: "Loop", inputs: ["x"], outputs: ["unused"] },
        { op: "Abs", inputs: ["x"], outputs: ["t"] },
      ]),
    );
    expect(m.forward(x23()).toArray()).toEqual([
      [-1, -2, -3],
      [-4, -5, -6],
    ]);
  });

  it("computes what depends on constants when it is loaded, unless that is large", () => {
    const shapes = load({
      nodes: [
        { op: "Shape", inputs: ["w"], outputs: ["s"] },
        { op: "Slice", inputs: ["s", "from", "to"], outputs: ["last"] },
        { op: "ConstantOfShape", inputs: ["last"], outputs: ["zeros"] },
        { op: "Add", inputs: ["zeros", "x"] },
      ],
      inputs: { x: {} },
      initializers: {
        w: { type: "int64", shape: [2, 3], data: [1, 2, 3, 4, 5, 6] },
        from: { type: "int64", shape: [1], data: [1] },
        to: { type: "int64", shape: [1], data: [2 ** 40] },
      },
    });
    expect(shapes.forward(tensor([1])).toArray()).toEqual([1, 1, 1]);
    const terabytes = { type: "int64", shape: [3], data: [1 << 20, 1 << 20, 1 << 10] } as const;
    for (const op of ["ConstantOfShape", "Expand", "Tile"]) {
      const inputs = op === "ConstantOfShape" ? ["shape"] : ["one", "shape"];
      const huge = load({
        nodes: [
          { op: "Constant", outputs: ["one"], attributes: { value: floats([1, 1, 1], [1]) } },
          { op, inputs, outputs: ["big"] },
          { op: "Add", inputs: ["big", "x"] },
        ],
        inputs: { x: {} },
        initializers: { shape: terabytes },
      });
      expect(() => huge.forward(tensor([1])), op).toThrow(OutOfMemoryError);
    }
    const range = load({
      nodes: [{ op: "Range", inputs: ["a", "b", "c"] }],
      outputs: ["y"],
      initializers: Object.fromEntries(
        [
          ["a", 0],
          ["b", 2 ** 45],
          ["c", 1],
        ].map(([n, v]) => [n, { type: "int64", shape: [], data: [v as number] }]),
      ),
    });
    expect(() => range.run({})).toThrow(OutOfMemoryError);
  });

  it("reads sparse initializers", () => {
    const m = model(one([{ op: "MatMul", inputs: ["x", "w"] }]));
    const sparse = (indices: number[], shape: number[]) =>
      create(SparseTensorSchema, {
        values: tensorProto("w", floats([2], [5, 7])),
        indices: tensorProto("", { type: "int64", shape, data: indices }),
        dims: [3n, 2n],
      });
    for (const s of [sparse([1, 4], [2]), sparse([0, 1, 2, 0], [2, 2])]) {
      m.graph!.sparseInitializer = [s];
      expect(loadOnnx(bytesOf(m)).forward(x23()).toArray()).toEqual([
        [21, 5],
        [-42, -20],
      ]);
    }
    for (const s of [sparse([4, 1], [2]), sparse([1, 6], [2]), sparse([0, 2, 2, 0], [2, 2]), sparse([1], [1])]) {
      m.graph!.sparseInitializer = [s];
      expect(() => loadOnnx(bytesOf(m))).toThrow(FormatError);
    }
    m.graph!.sparseInitializer = [{ ...sparse([1, 4], [2]), dims: [2n ** 30n, 2n] }];
    expect(() => loadOnnx(bytesOf(m))).toThrow(/have room for/);
  });
});

describe("what is refused", () => {
  const relu = { op: "Relu", inputs: ["x"] };
  it.each<[string, ModelInit, RegExp]>([
    [
      "a cycle",
      one([
        { op: "Add", inputs: ["x", "b"], outputs: ["a"] },
        { op: "Neg", inputs: ["a"], outputs: ["b"] },
        { op: "Abs", inputs: ["b"] },
      ]),
      /no cycles.*node \d \((Add|Neg)\)/,
    ],
    [
      "a value that is made twice",
      one([relu, { op: "Neg", inputs: ["x"] }]),
      /"y" is made once; got a second one from node 0 \(Relu\).*node 1 \(Neg\)/,
    ],
    ["a node that makes an input", one([{ ...relu, outputs: ["x"] }], { outputs: ["x"] }), /no cycles|made once/],
    ["a value that is not there", one([{ op: "Add", inputs: ["x", "w"] }]), /no value "w" \(.*node 0 \(Add\)/],
    ["an output that is not there", one([relu], { outputs: ["z"] }), /no value "z".*output "z"/],
    ["an output that is named twice", one([relu], { outputs: ["y", "y"] }), /Each output is named once/],
    ["no outputs", one([relu], { outputs: [] }), /has outputs/],
    [
      "an unknown attribute",
      one([{ ...relu, attributes: { alpha: 1 } }]),
      /attributes of this operator at opset 17 are: none; got alpha/,
    ],
    [
      "an attribute of a later version",
      one([{ op: "Shape", inputs: ["x"], attributes: { start: 1 } }], { opset: 13 }),
      /got start/,
    ],
    [
      "an attribute of another type",
      one([{ op: "LeakyRelu", inputs: ["x"], attributes: { alpha: 1 } }]),
      /alpha is of type float; got type 2/,
    ],
    ["a missing attribute", one([{ op: "Concat", inputs: ["x"] }]), /axis is needed/],
    ["too many inputs", one([{ op: "Relu", inputs: ["x", "x"] }]), /has 1 inputs at opset 17; got 2/],
    ["an input of a later version", one([{ op: "Clip", inputs: ["x", "x"] }], { opset: 9 }), /has 1 inputs at opset 9/],
    ["too few inputs", one([{ op: "Add", inputs: ["x", ""] }]), /has 2 inputs/],
    ["too many outputs", one([{ ...relu, outputs: ["y", "z"] }]), /at most 1 outputs; got 2/],
    [
      "a function that calls itself",
      one([{ op: "F", domain: "o", inputs: ["x"] }], {
        functions: [{ name: "F", domain: "o", inputNames: ["a"], nodes: [{ op: "F", domain: "o", inputs: ["a"] }] }],
      }),
      /do not call themselves/,
    ],
  ])("%s", (_what, init, text) => {
    expect(() => load(init)).toThrow(FormatError);
    expect(() => load(init)).toThrow(text);
  });

  it("operators that are not there, all of them at once and before anything runs", () => {
    const branch = graph({ nodes: [{ op: "Scan", inputs: ["x"], outputs: ["r"] }], outputs: ["r"] });
    const init = one([
      { op: "LSTM", inputs: ["x"], outputs: ["a"], name: "cell" },
      { op: "relu", inputs: ["a"], outputs: ["b"] },
      { op: "Custom", domain: "mine", inputs: ["b"], outputs: ["c"] },
      { op: "If", inputs: ["c"], outputs: ["d"], attributes: { then_branch: branch, else_branch: branch } },
      { op: "RMSNormalization", inputs: ["d", "d"], outputs: ["e"] },
      { op: "Resize", inputs: ["e"], outputs: ["f"], attributes: { mode: "cubic" } },
      { op: "MaxPool", inputs: ["f"], outputs: ["y", "at"], attributes: { kernel_shape: [2] } },
    ]);
    expect(() => load(init)).toThrow(UnsupportedKernel);
    for (const text of [
      'node 0 "cell" (LSTM): not there',
      "node 1 (relu): did you mean Relu?",
      'node 2 (Custom): not there (domain "mine")',
      "node 3 (If), node 0 (Scan): not there",
      "node 4 (RMSNormalization): there from opset 23 on",
      'node 5 (Resize): mode "cubic"',
      "node 6 (MaxPool): the output Indices",
    ]) {
      expect(() => load(init)).toThrow(text);
    }
    expect(() => load(one([relu], { opset: 8 }))).toThrow(/node 0 \(Relu\): opset 8/);
  });

  it("functions that add up to more than memory holds", () => {
    const functions = Array.from({ length: 40 }, (_, i) => ({
      name: `F${i}`,
      domain: "o",
      inputNames: ["a"],
      nodes: [
        { op: i === 0 ? "Neg" : `F${i - 1}`, domain: i === 0 ? "" : "o", inputs: ["a"], outputs: ["b"] },
        { op: i === 0 ? "Neg" : `F${i - 1}`, domain: i === 0 ? "" : "o", inputs: ["b"], outputs: ["y"] },
      ],
    }));
    expect(() => load(one([{ op: "F39", domain: "o", inputs: ["x"] }], { functions }))).toThrow(/add up to at most/);
  });

  it("graphs in graphs without end", () => {
    let inner = graph({ nodes: [{ op: "Neg", inputs: ["x"], outputs: ["r"] }], outputs: ["r"] });
    for (let i = 0; i < 200; i++) {
      inner = graph({
        nodes: [{ op: "If", inputs: ["c"], outputs: ["r"], attributes: { then_branch: inner, else_branch: inner } }]
          .slice(0, 1)
          .map((n) => ({ ...n, attributes: { then_branch: inner } })),
        outputs: ["r"],
      });
    }
    expect(() => loadOnnx(bytesOf({ ...model(one([])), graph: inner }))).toThrow(FormatError);
  });

  it("options and inputs that are no file", () => {
    expect(() => loadOnnx(new Uint8Array(0))).toThrow(FormatError);
    expect(() => loadOnnx(new TextEncoder().encode("not a model"))).toThrow(FormatError);
    expect(() => load(one([relu]), { outputs: ["yy"] })).toThrow(/got yy. Did you mean "y"/);
    expect(() => load(one([relu]), { output: ["y"] } as never)).toThrow(OptionError);
    expect(() => load(one([relu]), { outputs: [] })).toThrow(OptionError);
  });
});

describe("data in other files", () => {
  const folder = mkdtempSync(join(tmpdir(), "onnx-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const weights = elementTypes.float32.encode([9, 9, 1, 2, 3]);

  function withLocation(location: string, offset = "8", length = "12"): Uint8Array {
    const m = model(one([{ op: "Add", inputs: ["x", "w"] }]));
    const proto = tensorProto("w", floats([3], [0, 0, 0]));
    delete proto.rawData;
    proto.dataLocation = 1;
    const entries = Object.entries({ location, offset, length });
    proto.externalData = entries.map(([key, value]) => ({ $typeName: "onnx.Entry", key, value }));
    m.graph!.initializer = [proto];
    return bytesOf(m);
  }

  it("is read from beside the model, or from what the caller gives", () => {
    writeFileSync(join(folder, "weights.bin"), weights);
    writeFileSync(join(folder, "model.onnx"), withLocation("weights.bin"));
    const expected = [
      [2, 4, 6],
      [-3, -3, -3],
    ];
    expect(loadOnnx(join(folder, "model.onnx")).forward(x23()).toArray()).toEqual(expected);
    for (const externalData of [{ "weights.bin": weights }, new Map([["weights.bin", weights]]), () => weights]) {
      expect(loadOnnx(withLocation("weights.bin"), { externalData }).forward(x23()).toArray()).toEqual(expected);
    }
  });

  it("cannot lie outside of the model's folder, nor beyond its file", () => {
    writeFileSync(join(folder, "weights.bin"), weights);
    symlinkSync("/etc/hostname", join(folder, "link"));
    for (const location of ["../weights.bin", "/etc/hostname", "link", "a/../../x", "missing.bin"]) {
      writeFileSync(join(folder, "bad.onnx"), withLocation(location));
      expect(() => loadOnnx(join(folder, "bad.onnx")), location).toThrow(FormatError);
    }
    writeFileSync(join(folder, "bad.onnx"), withLocation("weights.bin", "12"));
    expect(() => loadOnnx(join(folder, "bad.onnx"))).toThrow(FormatError);
    expect(() => loadOnnx(withLocation("weights.bin"))).toThrow(/given with { externalData }/);
    expect(() => loadOnnx(withLocation("toString"), { externalData: {} })).toThrow(FormatError);
    expect(() => loadOnnx(withLocation("w", "12"), { externalData: { w: weights } })).toThrow(FormatError);
  });

  it("comes with a Blob or Response as with bytes", async () => {
    const bytes = modelBytes(one([{ op: "Neg", inputs: ["x"] }]));
    for (const input of [new Blob([bytes as BlobPart]), new Response(bytes as BodyInit)]) {
      const m = await loadOnnx(input);
      expect(m.forward(x23()).toArray()).toEqual([
        [-1, -2, -3],
        [4, 5, 6],
      ]);
    }
  });
});
