import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { FormatError, OptionError, OutOfMemoryError, tensor, UnsupportedKernel } from "../../src/index.js";
import { loadOnnx } from "../../src/io/index.js";
import { SparseTensorSchema } from "../../src/io/onnx/proto/onnx_pb.js";
import { tensorProto } from "../../src/io/onnx/tensor_proto.js";
import { bytesOf, graph, type ModelInit, model } from "./onnx_model.js";

import { floats, load, one, x23 } from "./onnx_small.js";

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
      { op: "Resize", inputs: ["e"], attributes: { mode: "cubic" } },
    ]);
    expect(() => load(init)).toThrow(UnsupportedKernel);
    for (const text of [
      'node 0 "cell" (LSTM): not there',
      "node 1 (relu): did you mean Relu?",
      'node 2 (Custom): not there (domain "mine")',
      "node 3 (If), node 0 (Scan): not there",
      "node 4 (RMSNormalization): there from opset 23 on",
      'node 5 (Resize): mode "cubic"',
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
