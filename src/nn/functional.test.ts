import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../autograd/index.js";
import { Random } from "../base/random.js";
import * as F from "./functional.js";
import * as nn from "./index.js";

const dtype = "float64" as const;
const [line, image, volume] = [normal([2, 3, 8]), normal([2, 3, 6, 6]), normal([1, 2, 4, 4, 4])];
const numbers = tensor([1, 0], { dtype: "int32" });

/** A function gives what its layer gives. */
const pairs: [string, () => Tensor, nn.Module, Tensor[]][] = [];
function pair<M extends nn.Module>(name: string, layer: M, inputs: Tensor[], call: (layer: M) => Tensor): void {
  pairs.push([name, () => call(layer), layer, inputs]);
}

pair("linear", new nn.Linear(8, 5, { dtype }), [line], (l) => F.linear(line, l.weight, l.bias));
pair("conv1d", new nn.Conv1d(3, 2, 3, { stride: 2, dtype }), [line], (l) =>
  F.conv1d(line, l.weight, { bias: l.bias, stride: 2 }),
);
pair("conv2d", new nn.Conv2d(3, 2, 3, { padding: "same", dtype }), [image], (l) =>
  F.conv2d(image, l.weight, { bias: l.bias, padding: "same" }),
);
pair("conv3d", new nn.Conv3d(2, 2, 2, { dtype }), [volume], (l) => F.conv3d(volume, l.weight, { bias: l.bias }));
pair("convTranspose1d", new nn.ConvTranspose1d(3, 2, 3, { stride: 2, dtype }), [line], (l) =>
  F.convTranspose1d(line, l.weight, { bias: l.bias, stride: 2 }),
);
pair("convTranspose2d", new nn.ConvTranspose2d(3, 2, 3, { stride: 2, outputPadding: 1, dtype }), [image], (l) =>
  F.convTranspose2d(image, l.weight, { bias: l.bias, stride: 2, outputPadding: 1 }),
);
pair("convTranspose3d", new nn.ConvTranspose3d(2, 2, 2, { dtype }), [volume], (l) =>
  F.convTranspose3d(volume, l.weight, { bias: l.bias }),
);
pair("maxPool1d", new nn.MaxPool1d(2), [line], () => F.maxPool1d(line, 2));
pair("maxPool2d", new nn.MaxPool2d(3, { stride: 1 }), [image], () => F.maxPool2d(image, 3, { stride: 1 }));
pair("maxPool3d", new nn.MaxPool3d(2), [volume], () => F.maxPool3d(volume, 2));
pair("avgPool1d", new nn.AvgPool1d(2), [line], () => F.avgPool1d(line, 2));
pair("avgPool2d", new nn.AvgPool2d(3, { padding: 1, countIncludePad: false }), [image], () =>
  F.avgPool2d(image, 3, { padding: 1, countIncludePad: false }),
);
pair("avgPool3d", new nn.AvgPool3d(2), [volume], () => F.avgPool3d(volume, 2));
pair("adaptiveAvgPool1d", new nn.AdaptiveAvgPool1d(3), [line], () => F.adaptiveAvgPool1d(line, 3));
pair("adaptiveAvgPool2d", new nn.AdaptiveAvgPool2d([2, null]), [image], () => F.adaptiveAvgPool2d(image, [2, null]));
pair("adaptiveAvgPool3d", new nn.AdaptiveAvgPool3d(1), [volume], () => F.adaptiveAvgPool3d(volume, 1));
pair("embedding", new nn.Embedding(4, 3, { paddingIdx: -1 }), [numbers], (l) =>
  F.embedding(numbers, l.weight, { paddingIdx: -1 }),
);
pair("relu", new nn.ReLU(), [line], () => F.relu(line));
pair("leakyRelu", new nn.LeakyReLU(), [line], () => F.leakyRelu(line));
pair("gelu", new nn.GELU(), [line], () => F.gelu(line));
pair("gelu by tanh", new nn.GELU({ approximate: "tanh" }), [line], () => F.gelu(line, { approximate: "tanh" }));
pair("silu", new nn.SiLU(), [line], () => F.silu(line));
pair("sigmoid", new nn.Sigmoid(), [line], () => F.sigmoid(line));
pair("tanh", new nn.Tanh(), [line], () => F.tanh(line));
pair("softmax", new nn.Softmax(1), [line], () => F.softmax(line, 1));
pair("logSoftmax", new nn.LogSoftmax(), [line], () => F.logSoftmax(line));
pair("flatten", new nn.Flatten(), [image], () => F.flatten(image, 1));
const [input, target] = [normal([2, 3]), normal([2, 3])];
pair("mseLoss", new nn.MSELoss(), [input, target], () => F.mseLoss(input, target));
pair("l1Loss", new nn.L1Loss({ reduction: "sum" }), [input, target], () =>
  F.l1Loss(input, target, { reduction: "sum" }),
);
pair("huberLoss", new nn.HuberLoss({ delta: 0.5 }), [input, target], () => F.huberLoss(input, target, { delta: 0.5 }));
pair("bceWithLogitsLoss", new nn.BCEWithLogitsLoss(), [input, target], () => F.bceWithLogitsLoss(input, target));
pair("crossEntropy", new nn.CrossEntropyLoss({ labelSmoothing: 0.1 }), [input, numbers], () =>
  F.crossEntropy(input, numbers, { labelSmoothing: 0.1 }),
);

describe("F", () => {
  test.each(pairs)("%s gives what its layer gives", (_name, call, layer, inputs) => {
    const want = layer.forward(...inputs);
    const y = call();
    expect(y.shape).toEqual(want.shape);
    expect(y.dataSync()).toEqual(want.dataSync());
  });

  test("dropout is on unless told otherwise", () => {
    const y = F.dropout(image, { p: 0.5, random: new Random(1) });
    expect(y.dataSync().filter((v) => v === 0).length).toBeGreaterThan(50);
    expect(F.dropout(image, { training: false })).toBe(image);
    expect(() => F.dropout(image, { training: true, p: 2 })).toThrow(/p must be a number in \[0, 1\]/);
  });

  test("losses are the textbook's, and stay finite where the textbook's overflow", () => {
    const [x, t] = [tensor([1000, -1000, 0.5]), tensor([1, 0, 1])];
    const bce = F.bceWithLogitsLoss(x, t, { reduction: "none" }).dataSync();
    expect(bce[0]).toBe(0);
    expect(bce[1]).toBe(0);
    expect(bce[2]).toBeCloseTo(Math.log(1 + Math.exp(-0.5)), 6);
    expect(F.bceWithLogitsLoss(x.neg(), t, { reduction: "none" }).dataSync()[0]).toBe(1000);
    // A confident, right logit costs exp(-20): a difference of numbers near 20 would leave none of its digits.
    const sure = tensor([20, -20], { requiresGrad: true });
    const small = F.bceWithLogitsLoss(sure, tensor([1, 0]), { reduction: "none" });
    small.sum().backward();
    for (const v of small.dataSync()) expect(v / Math.log1p(Math.exp(-20))).toBeCloseTo(1, 6);
    for (const [i, v] of sure.grad!.dataSync().entries()) {
      expect(v / ((i === 0 ? -1 : 1) / (1 + Math.exp(20)))).toBeCloseTo(1, 6);
    }
    expect(F.huberLoss(tensor([3, 0.5]), tensor([0, 0]), { reduction: "none" }).toArray()).toEqual([2.5, 0.125]);
  });

  test.each([
    [
      "a weight of another rank",
      () => F.conv2d(image, normal([2, 3, 3])),
      /conv2d takes a weight with 2 kernel axes.*\[2, 3, 3\]/,
    ],
    ["an unknown option", () => F.maxPool2d(image, 2, { strides: 1 } as object), /Did you mean "stride"/],
    ["axes in the wrong order", () => F.flatten(image, 2, 1), /startDim before endDim; got 2 and 1/],
    ["another shape", () => F.mseLoss(normal([2]), normal([2, 1])), /one shape; got \[2\] and \[2, 1\].*Reshape/],
  ])("refuses %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
