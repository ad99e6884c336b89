import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { beforeAll, expect, test } from "vitest";
import { nn, scope, tensor } from "../../src/index.js";
import { convertTensors, normOptions, openTensors, saveTensors, saveTfjs } from "../../src/io/index.js";
import { start } from "../tfjs/setup.js";

beforeAll(() => start("cpu"));

/** Random weights, variances above zero, as named tensors: what a model.json holds. */
function weightsOf(model: tfl.Sequential, seed: number): Map<string, { shape: number[]; data: Float32Array }> {
  const drawn = model.weights.map((w, i) => {
    const shape = w.shape as number[];
    const t = tf.randomNormal(shape, 0, 0.5, "float32", seed + i);
    return /variance/.test(w.originalName) ? tf.add(tf.abs(t), 0.5) : t;
  });
  model.setWeights(drawn);
  return new Map(
    model.weights.map((w, i) => [
      w.originalName,
      { shape: w.shape as number[], data: drawn[i]!.dataSync() as Float32Array },
    ]),
  );
}

const bn = () => normOptions("BatchNorm", {}, "tfjs") as object;
const ln = () => normOptions("LayerNorm", {}, "tfjs") as object;

class Separable extends nn.Module {
  readonly depthwise = new nn.Conv2d(6, 6, 3, { groups: 6, bias: false });
  readonly pointwise = new nn.Conv2d(6, 5, 1);
  override forward(x: Parameters<nn.Conv2d["forward"]>[0]) {
    return this.pointwise.forward(this.depthwise.forward(x));
  }
}

test("a convolutional model of TensorFlow.js predicts the same after conversion", async () => {
  const theirs = tfl.sequential({
    layers: [
      tfl.layers.conv2d({ inputShape: [9, 8, 3], filters: 4, kernelSize: 3, name: "stem" }),
      tfl.layers.batchNormalization({ name: "norm" }),
      tfl.layers.reLU(),
      tfl.layers.conv2dTranspose({ filters: 6, kernelSize: 3, strides: 2, name: "up" }),
      tfl.layers.separableConv2d({ filters: 5, kernelSize: 3, name: "sep" }),
      tfl.layers.depthwiseConv2d({ kernelSize: 2, depthMultiplier: 2, name: "depth" }),
      tfl.layers.batchNormalization({ name: "last_norm" }),
      tfl.layers.flatten(),
      tfl.layers.dense({ units: 7, name: "hidden" }),
      tfl.layers.layerNormalization({ name: "row_norm" }),
      tfl.layers.dense({ units: 3, useBias: false, name: "head" }),
    ],
  });
  const [, height, width, channels] = theirs.layers[6]!.outputShape as number[];
  const ours = new nn.Sequential(
    ...[new nn.Conv2d(3, 4, 3), new nn.BatchNorm2d(4, bn()), new nn.ReLU()],
    ...[new nn.ConvTranspose2d(4, 6, 3, { stride: 2 }), new Separable()],
    ...[new nn.Conv2d(5, 10, 2, { groups: 5 }), new nn.BatchNorm2d(10, bn()), new nn.Flatten()],
    ...[
      new nn.Linear(channels! * height! * width!, 7),
      new nn.LayerNorm(7, ln()),
      new nn.Linear(7, 3, { bias: false }),
    ],
  );
  const flatten = { hidden: [channels!, height!, width!] };
  const { tensors, report } = await convertTensors(weightsOf(theirs, 1), {
    ...{ from: "tfjs", to: "evenkeel", template: ours, flatten, rename: { sep: "4" } },
  });
  expect([report.missing, report.leftOver]).toEqual([[], []]);
  expect(report.entries.filter((e) => e.by === "order")).toEqual([]);
  ours.loadStateDict(tensors);
  const x = tf.randomNormal([4, 9, 8, 3], 0, 1, "float32", 99);
  const wanted = (theirs.predict(x) as tf.Tensor).dataSync();
  const got = scope(() => {
    const input = tensor(x.dataSync() as Float32Array, { shape: [4, 9, 8, 3] });
    return Float64Array.from(
      ours
        .eval()
        .forward(input.permute([0, 3, 1, 2]))
        .dataSync(),
    );
  });
  // A dozen layers, each off by roundings of 6e-8, over values that a layer norm brings to about 1.
  const size = Math.max(...wanted.map(Math.abs));
  const error = Math.max(...got.map((v, i) => Math.abs(v - wanted[i]!))) / size;
  console.info(
    `TensorFlow.js model: ${tensors.size} tensors, largest difference ${error.toExponential(1)} of the largest value`,
  );
  expect(error).toBeLessThan(5e-6);
  ours.dispose();
});

test("an embedding and a 1-D convolution too", async () => {
  const theirs = tfl.sequential({
    layers: [
      tfl.layers.embedding({ inputDim: 11, outputDim: 6, inputLength: 7 }),
      tfl.layers.conv1d({ filters: 5, kernelSize: 3 }),
      tfl.layers.globalAveragePooling1d(),
      tfl.layers.dense({ units: 2 }),
    ],
  });
  const [embedding, conv, dense] = [new nn.Embedding(11, 6), new nn.Conv1d(6, 5, 3), new nn.Linear(5, 2)];
  const ours = new nn.Sequential(embedding, conv, dense);
  const { tensors, report } = await convertTensors(weightsOf(theirs, 50), {
    from: "tfjs",
    to: "evenkeel",
    template: ours,
  });
  expect([report.missing, report.leftOver]).toEqual([[], []]);
  ours.loadStateDict(tensors);
  const tokens = [1, 0, 10, 3, 4, 9, 2];
  const wanted = (theirs.predict(tf.tensor2d([tokens])) as tf.Tensor).dataSync();
  const got = scope(() => {
    const rows = embedding.forward(tensor([tokens], { dtype: "int32" }));
    return dense.forward(conv.forward(rows.transpose(1, 2)).mean(2)).dataSync();
  });
  for (const [i, v] of wanted.entries()) expect(got[i]).toBeCloseTo(v, 5);
  ours.dispose();
});

test("a model.json goes to safetensors and back through files, and TensorFlow.js loads it again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-tfjs-"));
  const [model, torch, again] = ["model.json", "torch.safetensors", "again.json"].map((name) => join(folder, name));
  const theirs = tfl.sequential({
    layers: [
      tfl.layers.conv2d({ inputShape: [6, 6, 2], filters: 3, kernelSize: 3, name: "stem" }),
      tfl.layers.batchNormalization({ name: "norm", momentum: 0.9 }),
      tfl.layers.flatten(),
      tfl.layers.dense({ units: 4, name: "head" }),
    ],
  });
  try {
    saveTfjs(weightsOf(theirs, 7), model!, { topology: JSON.parse(theirs.toJSON() as unknown as string) });
    const file = await openTensors(model!);
    const there = await convertTensors(file, { to: "evenkeel", flatten: { head: [3, 4, 4] } });
    expect(there.report.layers).toEqual([
      { layer: "norm", kind: "BatchNorm", options: { eps: 1e-3, momentum: 0.1, runningVariance: "biased" } },
    ]);
    await saveTensors(there.tensors, torch!);
    const saved = await openTensors(torch!);
    const back = await convertTensors(saved, { to: "tfjs", template: file, flatten: { head: [3, 4, 4] } });
    expect([back.report.missing, back.report.leftOver]).toEqual([[], []]);
    await saveTensors(back.tensors, again!, file);
    for (const opened of [file, saved]) opened.close();
    const { modelTopology, weightsManifest } = JSON.parse(readFileSync(again!, "utf8"));
    const bytes = readFileSync(join(folder, weightsManifest[0].paths[0]));
    const loaded = await tfl.loadLayersModel(
      tf.io.fromMemory({
        ...{ modelTopology, weightSpecs: weightsManifest[0].weights },
        weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer,
      }),
    );
    const x = tf.randomNormal([3, 6, 6, 2], 0, 1, "float32", 5);
    const [wanted, got] = [theirs, loaded].map((m) => (m.predict(x) as tf.Tensor).dataSync());
    expect(got).toEqual(wanted);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
