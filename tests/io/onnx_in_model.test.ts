import { describe, expect, it } from "vitest";
import {
  DTypeError,
  type EvenkeelError,
  memoryStats,
  nn,
  noGrad,
  OptionError,
  optim,
  Random,
  randn,
  ShapeError,
  scope,
  tensor,
} from "../../src/index.js";
import { heap } from "../../src/memory/heap.js";
import type { ModelInit } from "./onnx_model.js";

import { floats, load, normal, one, x23 } from "./onnx_small.js";

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
