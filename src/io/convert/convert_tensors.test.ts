import { describe, expect, test } from "vitest";
import { FormatError, OptionError } from "../../base/errors.js";
import { scope } from "../../memory/scope.js";
import { Conv2d, ConvTranspose2d, Embedding, Flatten, Linear, MultiheadAttention, Sequential } from "../../nn/index.js";
import { BatchNorm2d, LayerNorm, RMSNorm } from "../../nn/norm/index.js";
import { spectralNorm } from "../../nn/norm/spectral_norm.js";
import { weightNorm } from "../../nn/norm/weight_norm.js";
import { type ConvertOptions, convertTensors } from "./convert_tensors.js";

type Given = Record<string, { shape: number[]; data: Float32Array }>;

let seed = 1;
/** Numbers that are all different, so that no two places can be mistaken. */
const t = (...shape: number[]): Given[string] => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2 ** 31;
  }),
});
const at = ({ shape, data }: { shape: readonly number[]; data: ArrayLike<number> }, ...place: number[]): number =>
  data[place.reduce((n, p, axis) => n * shape[axis]! + p, 0)]!;
describe("layouts", () => {
  test("a convolution's kernel, a linear layer's, a depthwise one's, place by place", async () => {
    const given = { "c/kernel": t(2, 3, 4, 5), "d/kernel": t(3, 7), "w/depthwise_kernel": t(2, 3, 4, 2) };
    const { tensors } = await convertTensors(given, { from: "keras", to: "pytorch" });
    const [c, d, w] = ["c.weight", "d.weight", "w.weight"].map((n) => tensors.get(n)!);
    expect([c!.shape, d!.shape, w!.shape]).toEqual([
      [5, 4, 2, 3],
      [7, 3],
      [8, 1, 2, 3],
    ]);
    expect(at(c!, 4, 1, 0, 2)).toBe(at(given["c/kernel"], 0, 2, 1, 4));
    expect(at(d!, 6, 2)).toBe(at(given["d/kernel"], 2, 6));
    expect(at(w!, 2 * 3 + 1, 0, 1, 2)).toBe(at(given["w/depthwise_kernel"], 1, 2, 3, 1));
  });

  test("Flax's transposed convolution is turned about, unless its kernel is transposed", async () => {
    const given = { "params/ConvTranspose_0/kernel": t(2, 3, 4, 5), "params/ConvTranspose_0/bias": t(5) };
    const plain = (await convertTensors(given, { to: "pytorch" })).tensors.get("ConvTranspose_0.weight")!;
    expect(at(plain, 3, 4, 0, 2)).toBe(at(given["params/ConvTranspose_0/kernel"], 1, 0, 3, 4));
    const other = { "params/up/kernel": t(2, 3, 4, 5), "params/up/bias": t(4) };
    const kinds = { up: { transposeKernel: true } };
    const kept = (await convertTensors(other, { to: "pytorch", kinds })).tensors.get("up.weight")!;
    expect(at(kept, 4, 3, 0, 2)).toBe(at(other["params/up/kernel"], 0, 2, 3, 4));
  });

  test("rows of a linear layer after Flatten", async () => {
    const given = { "fc/kernel": t(2 * 3 * 4, 5) };
    const { tensors } = await convertTensors(given, { from: "keras", to: "evenkeel", flatten: { fc: [4, 2, 3] } });
    // channel 1, row 1, column 2
    expect(at(tensors.get("fc.weight")!, 3, (1 * 2 + 1) * 3 + 2)).toBe(at(given["fc/kernel"], (1 * 3 + 2) * 4 + 1, 3));
  });

  test("a norm of several axes, whose channels move when that is asked for", async () => {
    const given = { "ln/gamma": t(2, 3, 4), "ln/beta": t(2, 3, 4) };
    const kinds = { ln: { moveChannels: true } };
    const { tensors } = await convertTensors(given, { to: "evenkeel", kinds });
    expect(at(tensors.get("ln.weight")!, 3, 1, 2)).toBe(at(given["ln/gamma"], 1, 2, 3));
    const same = await convertTensors(given, { to: "evenkeel" });
    expect(same.tensors.get("ln.weight")!.data).toEqual(given["ln/gamma"].data);
  });

  test("weight and spectral normalization become the weight that the layer computes with", async () => {
    const values = scope(() => {
      const conv = weightNorm(new Conv2d(3, 4, 2));
      const flat = weightNorm(new Linear(3, 4), { dim: null });
      const up = spectralNorm(new ConvTranspose2d(3, 3, 2));
      const state = Object.entries({ conv, flat, up }).flatMap(([name, m]) =>
        Object.entries(m.stateDict()).map(([n, v]) => [`${name}.${n}`, { shape: [...v.shape], data: v.dataSync() }]),
      );
      const weights = [conv, flat, up].map((m) => (m.weight as { dataSync(): ArrayLike<number> }).dataSync());
      return { state: Object.fromEntries(state), weights };
    });
    const kinds = { up: "convTranspose" } as const;
    const folded = await convertTensors(values.state, { to: "flax", kinds });
    const back = await convertTensors(folded.tensors, { to: "evenkeel", kinds });
    for (const [i, name] of ["conv", "flat", "up"].entries()) {
      const got = back.tensors.get(`${name}.weight`)!;
      for (let k = 0; k < got.data.length; k++) expect(got.data[k]).toBeCloseTo(values.weights[i]![k]!, 6);
    }
  });

  test("both ways of writing a parametrized weight are one", async () => {
    const [g, v] = [t(4, 1), t(4, 3)];
    const parts = {
      "fc.parametrizations.weight.original0": g,
      "fc.parametrizations.weight.original1": v,
      "fc.bias": t(4),
    };
    const { tensors } = await convertTensors(parts, { to: "evenkeel" });
    expect([...tensors.keys()]).toEqual(["fc.weight_g", "fc.weight_v", "fc.bias"]);
    const again = await convertTensors(tensors, { from: "evenkeel", to: "pytorch", template: parts });
    expect([...again.tensors.keys()].sort()).toEqual(Object.keys(parts).sort());
  });
});

describe("a template", () => {
  const model = (): Sequential =>
    new Sequential(
      ...[
        new Conv2d(3, 4, 3, { bias: false }),
        new BatchNorm2d(4),
        new Conv2d(4, 4, 3, { bias: false }),
        new BatchNorm2d(4),
      ],
      ...[new ConvTranspose2d(4, 4, 2), new Flatten(), new Linear(16, 5)],
    );
  const keras3 = (): Given => ({
    "layers/batch_normalization/vars/0": t(4),
    "layers/batch_normalization/vars/1": t(4),
    "layers/batch_normalization/vars/2": t(4),
    "layers/batch_normalization/vars/3": t(4),
    "layers/batch_normalization_1/vars/0": t(4),
    "layers/batch_normalization_1/vars/1": t(4),
    "layers/batch_normalization_1/vars/2": t(4),
    "layers/batch_normalization_1/vars/3": t(4),
    "layers/conv2d/vars/0": t(3, 3, 3, 4),
    "layers/conv2d_1/vars/0": t(3, 3, 4, 4),
    "layers/conv2d_transpose/vars/0": t(2, 2, 4, 4),
    "layers/conv2d_transpose/vars/1": t(4),
    "layers/dense/vars/0": t(16, 5),
    "layers/dense/vars/1": t(5),
    "optimizer/vars/0": t(1),
  });

  test("gives its names; layers are found by kind, shapes and order, and loadStateDict takes what comes", async () => {
    const [given, net] = [keras3(), model()];
    const { tensors, report } = await convertTensors(given, {
      to: "evenkeel",
      template: net,
      flatten: { dense: [4, 2, 2] },
    });
    net.loadStateDict(tensors);
    expect(report.missing).toEqual([]);
    expect(report.leftOver).toEqual([]);
    const by = Object.fromEntries(report.entries.map((e) => [e.to, [e.from[0], e.by]]));
    expect(by["0.weight"]).toEqual(["layers/conv2d/vars/0", "shape"]);
    expect(by["3.running_var"]).toEqual(["layers/batch_normalization_1/vars/3", "order"]);
    expect(by["4.weight"]).toEqual(["layers/conv2d_transpose/vars/0", "shape"]);
    // and back, under Keras's numbers
    const back = await convertTensors(tensors, {
      from: "evenkeel",
      to: "keras",
      template: given,
      flatten: { "6": [4, 2, 2] },
    });
    expect(back.report.missing).toEqual(["optimizer/vars/0"].slice(1));
    for (const [name, { data }] of back.tensors) expect(data, name).toEqual(given[name]!.data);
    expect(back.tensors.size).toBe(14);
    net.dispose();
  });

  test("three tensors of a batch norm are taken as scale=False, which is said; a template knows better", async () => {
    const given = Object.fromEntries([0, 1, 2].map((i) => [`layers/batch_normalization/vars/${i}`, t(4)]));
    const alone = await convertTensors(given, { to: "evenkeel" });
    expect([...alone.tensors.keys()].map((n) => n.split(".")[1])).toEqual([
      ...["bias", "running_mean", "running_var", "num_batches_tracked"],
    ]);
    expect(alone.report.entries[0]!.note).toBe("norm: taken as scale=False");
    const scaled = { "bn.weight": t(4), "bn.running_mean": t(4), "bn.running_var": t(4) };
    const { tensors, report } = await convertTensors(given, { to: "evenkeel", template: scaled });
    expect([report.missing, report.leftOver]).toEqual([[], []]);
    expect(tensors.get("bn.weight")!.data).toEqual(given["layers/batch_normalization/vars/0"]!.data);
    const back = await convertTensors(tensors, { from: "evenkeel", to: "keras", template: given });
    expect([back.report.missing, back.report.leftOver]).toEqual([[], []]);
    expect(back.tensors.get("layers/batch_normalization/vars/0")!.data).toEqual(tensors.get("bn.weight")!.data);
  });

  test("numbers count as numbers: conv2d_10 comes after conv2d_2", async () => {
    const order = [0, 1, 10, 2];
    const given = Object.fromEntries(order.map((i) => [`conv2d${i ? `_${i}` : ""}/kernel`, t(1, 1, 2, 2)]));
    const template = Object.fromEntries([0, 1, 2, 3].map((i) => [`${i}.weight`, t(2, 2, 1, 1)]));
    const { report } = await convertTensors(given, { to: "evenkeel", from: "keras", template });
    expect(report.entries.map((e) => [e.from[0], e.to, e.by])).toEqual([
      ["conv2d/kernel", "0.weight", "order"],
      ["conv2d_1/kernel", "1.weight", "order"],
      ["conv2d_2/kernel", "2.weight", "order"],
      ["conv2d_10/kernel", "3.weight", "order"],
    ]);
  });

  test("is never filled by guess: unequal counts and other shapes are left over and missing", async () => {
    const given = { "a/kernel": t(3, 3), "b/kernel": t(3, 3), "c/kernel": t(2, 5) };
    const template = { "x.weight": t(3, 3), "c.weight": t(4, 2) };
    const { tensors, report } = await convertTensors(given, { from: "keras", to: "evenkeel", template });
    expect(tensors.size).toBe(0);
    expect(report.missing.sort()).toEqual(["c.weight", "x.weight"]);
    expect(report.leftOver.sort()).toEqual(["a/kernel", "b/kernel", "c/kernel"]);
    expect(report.entries.find((e) => e.to === "c.weight")!.note).toBe("weight [5, 2] for weight [4, 2]");
  });

  test("a model knows its embeddings, attention and norms", async () => {
    const net = new Sequential(new Embedding(6, 8), new MultiheadAttention(8, 2), new LayerNorm(8), new RMSNorm(8));
    const state = Object.fromEntries(Object.entries(net.stateDict()).map(([n, v]) => [n, v]));
    const kinds = { "0": "embedding", "1": { heads: 2 } } as const;
    const flax = await convertTensors(state, { from: "evenkeel", to: "flax", kinds });
    expect([...flax.tensors.keys()].slice(0, 3)).toEqual([
      "params/0/embedding",
      "params/1/query/kernel",
      "params/1/query/bias",
    ]);
    const back = await convertTensors(flax.tensors, { to: "evenkeel", template: net });
    expect(back.report.missing).toEqual([]);
    expect(back.report.leftOver).toEqual([]);
    for (const [name, value] of Object.entries(state)) expect(back.tensors.get(name)!.data).toEqual(value.dataSync());
    net.dispose();
  });
});

describe("wrong input", () => {
  const given = (): Given => ({ "conv/kernel": t(3, 3, 2, 4), "bn/gamma": t(4), "bn/beta": t(4) });
  const refused = async (options: object, source: Given = given()): Promise<Error> => {
    const outcome = convertTensors(source, { from: "keras", to: "pytorch", ...options } as ConvertOptions);
    return outcome.then(
      () => new Error("accepted"),
      (error: Error) => error,
    );
  };

  test.each<[string, object, RegExp]>([
    ["a framework that is none", { to: "caffe" }, /to must be "pytorch" or/],
    ["an option's name", { renames: {} }, /Did you mean "rename"/],
    [
      "a layer to rename that is not there",
      { rename: { conf: "x" } },
      /rename names layers.*"conf".*Did you mean "conv"/,
    ],
    ["a kind for a layer that is not there", { kinds: { bm: "norm" } }, /Did you mean "bn"/],
    ["an unknown kind", { kinds: { bn: "nrom" } }, /Did you mean "norm"/],
    ["a flattened shape that is none", { flatten: { conv: [4] } }, /as \[C, H, W\]/],
    ["a type that is none", { dtype: "float8" }, /dtype must be/],
  ])("%s", async (_, options, message) => {
    const error = await refused(options);
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toMatch(message);
  });

  test("two tensors under one name, a kind with other axes, names that mean the same", async () => {
    const twice = await refused({ rename: { conv: "x", dense: "x" } }, { ...given(), "dense/kernel": t(2, 2) });
    expect(twice).toBeInstanceOf(FormatError);
    expect(twice.message).toMatch(/x\.weight for conv\/kernel and dense\/kernel.*Rename one/);
    const rank = await refused({ kinds: { conv: "linear" } });
    expect(rank).toBeInstanceOf(FormatError);
    expect(rank.message).toMatch(
      /kind linear has kernel, bias, with weights of 2 axes; got conv with kernel \[3, 3, 2, 4\]/,
    );
    const same = await refused({}, { "a/kernel": t(2, 2), "layers/a/kernel:0": t(2, 2) });
    expect(same.message).toMatch(/a\/kernel and layers\/a\/kernel:0, which mean the same/);
  });

  test("names that tell no framework, and names of two", async () => {
    await expect(convertTensors({ x: t(1) }, { to: "keras" })).rejects.toThrow(
      /none that one of them gives: x.*--from/,
    );
    const both = { "a.weight": t(1), "a/gamma": t(1) };
    await expect(convertTensors(both, { to: "keras" })).rejects.toThrow(/names of keras and pytorch/);
  });

  test("heads and flattened shapes that do not fit are refused, not cut", async () => {
    const torch = { "a.in_proj_weight": t(12, 4), "a.out_proj.weight": t(4, 4) };
    const three = { a: { heads: 3 } };
    await expect(convertTensors(torch, { to: "keras", kinds: three })).rejects.toThrow(/shapes of a must fit/);
    await expect(convertTensors(torch, { to: "keras" })).rejects.toThrow(/a, whose tensors do not tell.*--kind a=/);
    const dense = { "fc/kernel": t(24, 5) };
    const flatten = { fc: [4, 2, 4] };
    const refused = convertTensors(dense, { from: "keras", to: "pytorch", flatten });
    await expect(refused).rejects.toThrow(/shapes of fc must fit.*\[5, 24\]/);
  });

  test("layers of unknown kinds are passed on as they are, and said to be", async () => {
    const lstm = { "lstm/cell/kernel": t(3, 8), "lstm/cell/recurrent_kernel": t(2, 8), "lstm/cell/bias": t(8) };
    const { tensors, report } = await convertTensors(
      { ...lstm, "fc/kernel": t(2, 3) },
      { from: "keras", to: "pytorch" },
    );
    expect(report.unknown).toEqual(Object.keys(lstm));
    expect(report.summary()).toMatch(/3 of unknown layers, as they are/);
    expect(tensors.get("lstm.cell.kernel")!.data).toEqual(lstm["lstm/cell/kernel"].data);
    const torch = { "rnn.weight_ih_l0": t(8, 3), "rnn.weight_hh_l0": t(8, 2), pos: t(1, 4) };
    const there = await convertTensors(torch, { from: "pytorch", to: "flax" });
    expect(there.report.unknown).toEqual(Object.keys(torch));
  });

  test("keys such as __proto__ are names like others", async () => {
    const odd = new Map([
      ["__proto__.weight", t(2, 2)],
      ["constructor", t(1)],
    ]);
    const { tensors } = await convertTensors(odd, { from: "pytorch", to: "keras" });
    expect([...tensors.keys()]).toEqual(["__proto__/kernel", "constructor"]);
  });
});

test("types: floats become what is asked for, rounded once; whole numbers stay", async () => {
  const given = { "a/kernel": t(2, 3), n: { shape: [1], data: Int32Array.of(7) } };
  const { tensors } = await convertTensors(given, { from: "keras", to: "pytorch", dtype: "float16" });
  expect(tensors.get("a.weight")!.type).toBe("float16");
  expect(tensors.get("n")).toMatchObject({ type: "int32", data: Int32Array.of(7) });
  const first = tensors.get("a.weight")!.data[0]!;
  expect(Math.abs(first - given["a/kernel"].data[0]!)).toBeLessThan(2 ** -11);
  expect((first * 2 ** 14 * 2 ** 10) % 1).toBe(0);
});
