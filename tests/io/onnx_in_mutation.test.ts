import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
  EvenkeelError,
  FormatError,
  memoryStats,
  noGrad,
  type Random,
  scope,
  type Tensor,
  tensor,
  UnsupportedKernel,
} from "../../src/index.js";
import { loadOnnx, type OnnxModule } from "../../src/io/index.js";
import {
  type Graph,
  type Model,
  ModelSchema,
  type Node,
  type Tensor as TensorProto,
} from "../../src/io/onnx/proto/onnx_pb.js";
import { withRoom } from "../../src/io/onnx/value.js";
import { type Mutation, pick, readMutated } from "./mutation.js";
import { attribute, bytesOf, graph, type ModelInit, modelBytes, type Numbers } from "./onnx_model.js";

const whole = (...data: number[]): Numbers => ({ type: "int64", shape: [data.length], data });
const floats = (shape: number[]): Numbers => ({
  type: "float32",
  shape,
  data: Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)),
});

/** Shapes computed, a branch, a function, constants of several kinds. */
const various: ModelInit = {
  opset: 18,
  domains: { own: 1 },
  inputs: { x: { shape: ["n", 2, 6, 6] } },
  nodes: [
    { op: "Conv", inputs: ["x", "w"], outputs: ["c"], attributes: { pads: [1, 1, 0, 1], strides: [1, 2] } },
    { op: "GroupNormalization", inputs: ["c", "g", "g"], outputs: ["gn"], attributes: { num_groups: 2 } },
    { op: "MaxPool", inputs: ["gn"], outputs: ["p"], attributes: { kernel_shape: [2, 2], ceil_mode: 1 } },
    { op: "Shape", inputs: ["p"], outputs: ["s"] },
    { op: "Slice", inputs: ["s", "from", "to"], outputs: ["first"] },
    { op: "Concat", inputs: ["first", "rest"], outputs: ["shape"], attributes: { axis: 0 } },
    { op: "Reshape", inputs: ["p", "shape"], outputs: ["r"] },
    { op: "Act", domain: "own", inputs: ["r"], outputs: ["a"], attributes: { alpha: { float: 0.2 } } },
    { op: "ReduceSum", inputs: ["a"], outputs: ["sum"], attributes: { keepdims: 0 } },
    { op: "Greater", inputs: ["sum", "zero"], outputs: ["positive"] },
    {
      op: "If",
      inputs: ["positive"],
      outputs: ["b"],
      attributes: {
        then_branch: graph({ nodes: [{ op: "Neg", inputs: ["a"], outputs: ["t"] }], outputs: ["t"] }),
        else_branch: graph({ nodes: [{ op: "Abs", inputs: ["a"], outputs: ["t"] }], outputs: ["t"] }),
      },
    },
    { op: "TopK", inputs: ["b", "k"], outputs: ["v", "i"] },
    { op: "Pad", inputs: ["v", "pads"], outputs: ["y"], attributes: { mode: "edge" } },
  ],
  outputs: ["y", "i"],
  initializers: {
    w: floats([4, 2, 3, 3]),
    g: floats([2]),
    from: whole(0),
    to: whole(1),
    rest: whole(-1),
    zero: { type: "float32", shape: [], data: [0] },
    k: whole(2),
    pads: whole(0, 1, 0, 1),
  },
  functions: [
    {
      name: "Act",
      domain: "own",
      inputNames: ["v"],
      attributes: ["alpha"],
      nodes: [{ op: "Elu", inputs: ["v"], attributes: { alpha: { ref: "alpha" } } }],
    },
  ],
};
const movement: ModelInit = {
  inputs: { x: { shape: [2, 3, 4] }, i: { type: "int64", shape: ["k"] } },
  nodes: [
    { op: "ConstantOfShape", inputs: ["shape"], outputs: ["z"], attributes: { value: floats([1]) } },
    { op: "Expand", inputs: ["z", "shape"], outputs: ["e"] },
    { op: "Tile", inputs: ["x", "repeats"], outputs: ["t"] },
    { op: "Transpose", inputs: ["t"], outputs: ["tr"], attributes: { perm: [2, 0, 1] } },
    { op: "Gather", inputs: ["tr", "i"], outputs: ["ga"] },
    { op: "Range", inputs: ["start", "limit", "step"], outputs: ["ra"] },
    { op: "OneHot", inputs: ["ra", "limit", "values"], outputs: ["oh"] },
    { op: "Resize", inputs: ["x", "", "scales"], outputs: ["re"], attributes: { mode: "linear" } },
    { op: "Split", inputs: ["re"], outputs: ["sa", "sb"], attributes: { axis: 2 } },
    { op: "Einsum", inputs: ["sa", "sb"], outputs: ["ei"], attributes: { equation: "abc,abd->acd" } },
    { op: "LayerNormalization", inputs: ["ei", "scale"], outputs: ["y"] },
  ],
  outputs: ["y", "ga", "oh", "e"],
  initializers: {
    shape: whole(2, 3),
    repeats: whole(1, 2, 1),
    start: { type: "int64", shape: [], data: [0] },
    limit: { type: "int64", shape: [], data: [4] },
    step: { type: "int64", shape: [], data: [1] },
    values: floats([2]),
    scales: { type: "float32", shape: [3], data: [1, 1, 2] },
    scale: floats([4]),
  },
};

const samples = [
  modelBytes(various),
  modelBytes(movement),
  new Uint8Array(readFileSync(fileURLToPath(new URL("files/torch_mlp.onnx", import.meta.url)))),
];

const numbersOdd = [
  0n,
  1n,
  -1n,
  2n,
  3n,
  7n,
  255n,
  65536n,
  2n ** 31n,
  -(2n ** 31n),
  2n ** 40n,
  2n ** 53n + 1n,
  2n ** 62n,
  2n ** 63n - 1n,
  -(2n ** 63n),
];
const operators = [
  "Add",
  "Relu",
  "Conv",
  "Reshape",
  "Concat",
  "Expand",
  "Tile",
  "Loop",
  "If",
  "Identity",
  "Softmax",
  "BatchNormalization",
  "MatMul",
  "Gather",
  "",
  "Constant",
];

/** A change to a model that has been read; written again afterwards. */
type Change = (m: Model, g: Graph, random: Random) => void;
const nodeOf = (g: Graph, random: Random): Node => pick(random, g.node);
const names = (g: Graph): string[] => [
  "",
  "nowhere",
  "__proto__",
  ...g.node.flatMap((n) => [...n.input, ...n.output]),
  ...g.initializer.map((t) => t.name),
];
const put = <T>(list: T[], random: Random, value: T): void => {
  if (list.length > 0) list[random.below(list.length)] = value;
};

const changes: Change[] = [
  (_m, g, r) => put(nodeOf(g, r).input, r, pick(r, names(g))),
  (_m, g, r) => put(nodeOf(g, r).output, r, pick(r, names(g))),
  (_m, g, r) => put(nodeOf(g, r).input, r, pick(r, g.node).output[0] ?? ""),
  (_m, g, r) => {
    nodeOf(g, r).opType = pick(r, operators);
  },
  (_m, g, r) => {
    nodeOf(g, r).domain = pick(r, ["own", "ai.onnx", "com.microsoft", "x"]);
  },
  (_m, g, r) => {
    const a = pick(
      r,
      g.node.flatMap((n) => n.attribute),
    );
    a.type = r.below(16);
  },
  (_m, g, r) => {
    const a = pick(
      r,
      g.node.flatMap((n) => n.attribute),
    );
    if (a.ints.length > 0) put(a.ints, r, pick(r, numbersOdd));
    else if (a.i !== undefined) a.i = pick(r, numbersOdd);
    else if (a.f !== undefined) a.f = pick(r, [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e30]);
    else a.name = pick(r, ["axis", "", "__proto__"]);
  },
  (_m, g, r) => {
    const n = nodeOf(g, r);
    n.attribute.push(
      attribute(pick(r, ["axis", "pads", "kernel_shape", "strides", "group", "keepdims", "perm"]), [
        Number(pick(r, numbersOdd.slice(0, 10))),
      ]),
    );
  },
  (_m, g, r) => void g.initializer.splice(r.below(g.initializer.length), 1),
  (_m, g, r) => void g.initializer.push(pick(r, g.initializer)),
  (_m, g, r) => {
    const t: TensorProto = pick(r, g.initializer);
    if (r.uniform() < 0.5) put(t.dims, r, pick(r, numbersOdd));
    else t.dims.push(pick(r, numbersOdd));
  },
  (_m, g, r) => {
    pick(r, g.initializer).dataType = r.below(26);
  },
  (_m, g, r) => {
    // Numbers of the same length: shapes, axes and repeats of another size.
    const t = pick(
      r,
      g.initializer.filter((i) => i.dataType === 7),
    );
    if (!t?.rawData || t.rawData.length < 8) return;
    const view = new DataView(t.rawData.buffer, t.rawData.byteOffset, t.rawData.byteLength);
    view.setBigInt64(8 * r.below(t.rawData.length / 8), pick(r, numbersOdd), true);
  },
  (_m, g, r) => {
    const t = pick(r, g.initializer);
    t.dataLocation = 1;
    t.externalData = [
      { $typeName: "onnx.Entry", key: "location", value: pick(r, ["../../etc/passwd", "weights", "/dev/zero"]) },
    ];
  },
  (_m, g, r) => void g.node.splice(r.below(g.node.length), 1),
  (_m, g, r) => void g.node.push(nodeOf(g, r)),
  (_m, g, r) => void g.node.sort(() => r.uniform() - 0.5),
  (_m, g, r) => void g.input.splice(r.below(2), 1),
  (_m, g, r) => put(g.output, r, { ...pick(r, g.output), name: pick(r, names(g)) }),
  (m, _g, r) => {
    pick(r, m.opsetImport).version = BigInt(r.below(26));
  },
  (m, _g, r) => {
    const f = m.functions[0];
    if (f) put(f.node, r, { ...f.node[0]!, opType: pick(r, ["Act", "Neg"]), domain: pick(r, ["own", ""]) });
  },
];

const structured: Mutation = (bytes, random) => {
  const m = fromBinary(ModelSchema, bytes);
  for (let n = 1 + random.below(3); n > 0; n--) {
    const { graph: g } = m;
    if (g && g.node.length > 0 && g.initializer.length > 0 && g.input.length > 0 && g.output.length > 0) {
      // A change that finds nothing to change leaves the model as it is.
      if (g.node.some((node) => node.attribute.length > 0)) pick(random, changes)(m, g, random);
    }
  }
  return bytesOf(m);
};

let unsupported = 0;
let ran = 0;
let failed = 0;
/** Inputs as the file describes them, 2 for a length that may be any; null where that is large. */
function inputsFor(m: OnnxModule): Record<string, Tensor> | null {
  const made: [string, Tensor][] = [];
  for (const { name, type, shape } of m.inputs) {
    const lengths = (shape ?? [2, 2]).map((d) => (typeof d === "number" ? d : 2));
    const size = lengths.reduce((a, b) => a * b, 1);
    if (size > 4096) return null;
    const dtype = type === "float64" ? "float64" : type.includes("float") ? "float32" : "int32";
    made.push([
      name,
      tensor(
        Float64Array.from({ length: size }, (_, i) => (dtype === "int32" ? i % 2 : Math.sin(i))),
        { shape: lengths, dtype },
      ),
    ]);
  }
  return Object.fromEntries(made);
}

it("ends in a model or a typed error, whatever is done to a file, and so do the models that are left", async () => {
  const read = (bytes: Uint8Array): void => {
    let m: OnnxModule;
    try {
      m = loadOnnx(bytes);
    } catch (error) {
      // What the file asks for and is not computed here is refused too, by an error of its own.
      if (!(error instanceof UnsupportedKernel)) throw error;
      unsupported++;
      throw new FormatError(error.message);
    }
    try {
      scope(() => {
        const inputs = inputsFor(m);
        // What a changed file asks for may take long and be in order: no more than a MiB of numbers here.
        if (inputs) withRoom(2 ** 18, () => noGrad(() => m.run(inputs)));
      });
      ran++;
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error;
      failed++;
    } finally {
      m.dispose();
    }
  };
  const before = memoryStats().liveBlocks;
  const outcomes = await readMutated(samples, read, { files: 10_000, seed: 21, mutations: [structured] });
  const { accepted, refused, slowest, most } = outcomes;
  console.info(
    `onnx: 10000 files, ${accepted} accepted (${ran} ran, ${failed} ended in a typed error), ${refused} refused (${unsupported} for operators that are not there), slowest ${slowest.toFixed()} ms, most ${(most / 2 ** 20).toFixed(1)} MiB, heap ${(memoryStats().reservedBytes / 2 ** 20).toFixed()} MiB`,
  );
  expect(accepted).toBeGreaterThan(500);
  expect(refused).toBeGreaterThan(3000);
  expect(memoryStats().liveBlocks).toBe(before);
});
