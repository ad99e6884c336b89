import { describe, expect, test } from "vitest";
import { manualSeed } from "../../src/base/random.js";
import { concat, F, matmul, stack, Tensor, tensor, where } from "../../src/index.js";
import type { DeviceName } from "../../src/memory/device.js";
import { testOnDevice } from "../conformance/on_device.js";
import { awayFromZero, distinct, normal, positive } from "../conformance/op_harness.js";

/** A call of an op: the inputs it is differentiated by, and the integers beside them. */
interface Call {
  readonly inputs: readonly Tensor[];
  readonly whole?: Tensor;
  readonly apply: (inputs: Tensor[], whole: Tensor) => Tensor;
  /** Largest allowed error. Default 1e-6; say why where it is larger. */
  readonly tolerance?: number;
}

const x = normal([2, 4, 6]);
const image = normal([2, 4, 6, 6]);
const on = (inputs: readonly Tensor[], apply: (...inputs: Tensor[]) => Tensor): Call => ({
  inputs,
  apply: (tensors) => apply(...tensors),
});
const one = (apply: (x: Tensor) => Tensor) => on([x], (t) => apply(t!));

const anywhere = ["neg", "sign", "square", "exp", "expm1", "tanh", "erf", "sigmoid", "softplus", "sin", "cos"] as const;
const rounding = ["floor", "ceil", "round", "isNaN", "logicalNot"] as const;
const above = ["sqrt", "rsqrt", "log", "log1p"] as const;
const away = ["abs", "reciprocal"] as const;
const arithmetic = ["add", "sub", "mul", "div", "maximum", "minimum"] as const;
const comparisons = ["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual"] as const;
const callsOf = <N extends string>(names: readonly N[], callOf: (name: N) => Call): Record<string, Call> =>
  Object.fromEntries(names.map((name) => [`Tensor.${name}`, callOf(name)]));

const methods: Record<string, Call> = {
  ...callsOf([...anywhere, ...rounding], (name) => one((t) => t[name]())),
  // log of 1 is 0, near which no error is small beside the value.
  ...callsOf(above, (name) => on([positive([2, 4, 6], 1.5, 4)], (t) => t![name]())),
  ...callsOf(away, (name) => on([awayFromZero([2, 4, 6], 0.5)], (t) => t![name]())),
  ...callsOf([...arithmetic, ...comparisons], (name) =>
    on([distinct([2, 4, 6]), distinct([4, 1]).add(0.125)], (a, b) => a![name](b!)),
  ),
  "Tensor.pow": on([positive([2, 4, 6]), normal([4, 1])], (a, b) => a!.pow(b!)),
  "Tensor.sum": one((t) => t.sum([0, 2])),
  "Tensor.mean": one((t) => t.mean(1)),
  "Tensor.variance": one((t) => t.variance([0, 2], { correction: 1 })),
  "Tensor.max": one((t) => t.max(1)),
  "Tensor.min": one((t) => t.min([0, 2])),
  "Tensor.prod": one((t) => t.prod(2)),
  "Tensor.argMax": one((t) => t.argMax(1)),
  "Tensor.sumTo": one((t) => t.sumTo([4, 1])),
  "Tensor.reshape": one((t) => t.reshape([8, -1])),
  "Tensor.flatten": one((t) => t.flatten(1)),
  "Tensor.permute": one((t) => t.permute([2, 0, 1])),
  "Tensor.transpose": one((t) => t.transpose(0, 2)),
  "Tensor.expand": on([normal([4, 1])], (t) => t!.expand([3, 4, 5])),
  "Tensor.slice": one((t) => t.slice([0, 1, 2], [2, 2, 3])),
  "Tensor.narrow": one((t) => t.narrow(1, 1, 2)),
  "Tensor.pad": on([normal([3, 4])], (t) =>
    t!.pad(
      [
        [1, 2],
        [0, 3],
      ],
      0.5,
    ),
  ),
  "Tensor.concat": on([x, normal([2, 3, 6])], (a, b) => a!.concat(b!, 1)),
  "Tensor.flip": one((t) => t.flip([0, 2])),
  "Tensor.matmul": on([x, normal([6, 5])], (a, b) => a!.matmul(b!)),
  "Tensor.cast": one((t) => t.cast("int32")),
};

const rows = normal([5, 8]);
const weights = { line: normal([6, 2, 3]), plane: normal([6, 2, 3, 3]), space: normal([6, 2, 2, 2, 2]) };
const turned = { line: normal([4, 3, 3]), plane: normal([4, 3, 3, 3]), space: normal([2, 3, 2, 2, 2]) };
const volume = normal([1, 2, 4, 4, 4]);
const targets = tensor([0, 3, 7, 1, 3], { dtype: "int32" });
const channel = () => [normal([4]), normal([4])];
const last = () => [normal([8]), normal([8])];

const classWeights = positive([8]);
const functions: Record<string, Call> = {
  matmul: on([normal([3, 4, 5]), normal([3, 6, 5])], (a, b) => matmul(a!, b!, { transposeB: true })),
  concat: on([x, x], (a, b) => concat([a!, b!], 2)),
  stack: on([x, x], (a, b) => stack([a!, b!], 1)),
  where: { inputs: [rows, rows.neg()], whole: targets.reshape([5, 1]), apply: ([a, b], w) => where(w, a!, b!) },
  "F.logSoftmax": on([rows], (t) => F.logSoftmax(t!, 1)),
  "F.softmax": on([rows], (t) => F.softmax(t!, 1)),
  "F.gelu": one((t) => F.gelu(t)),
  "F.leakyRelu": one((t) => F.leakyRelu(t)),
  "F.relu": one((t) => F.relu(t)),
  "F.sigmoid": one((t) => F.sigmoid(t)),
  "F.silu": one((t) => F.silu(t)),
  "F.tanh": one((t) => F.tanh(t)),
  "F.dropout": one((t) => F.dropout(t, { p: 0.3 })),
  "F.flatten": one((t) => F.flatten(t)),
  "F.linear": on([rows, normal([3, 8]), normal([3])], (t, w, b) => F.linear(t!, w!, b!)),
  "F.bceWithLogitsLoss": on([rows, positive([5, 8], 0, 1)], (t, y) => F.bceWithLogitsLoss(t!, y!)),
  "F.crossEntropy": { inputs: [rows], whole: targets, apply: ([t], y) => F.crossEntropy(t!, y) },
  "F.crossEntropy with class weights": {
    inputs: [rows],
    whole: targets,
    apply: ([t], y) => F.crossEntropy(t!, y, { weight: classWeights.cast(t!.dtype).to(t!.device) }),
  },
  "F.huberLoss": on([rows, normal([5, 8])], (t, y) => F.huberLoss(t!, y!)),
  "F.l1Loss": on([rows, normal([5, 8])], (t, y) => F.l1Loss(t!, y!)),
  "F.mseLoss": on([rows, normal([5, 8])], (t, y) => F.mseLoss(t!, y!)),
  "F.spectralNorm": on([rows, normal([5]), normal([8])], (w, u, v) => F.spectralNorm(w!, u!, v!)),
  "F.weightNorm": on([rows, normal([5, 1])], (v, g) => F.weightNorm(v!, g!)),
  "F.weightStandardization": on([rows, normal([5])], (w, gain) => F.weightStandardization(w!, { gain: gain! })),
  "F.conv1d": on([x, weights.line], (t, w) => F.conv1d(t!, w!, { groups: 2, padding: 1 })),
  "F.conv2d": on([image, weights.plane], (t, w) => F.conv2d(t!, w!, { groups: 2, stride: 2 })),
  "F.conv3d": on([volume, weights.space], (t, w) => F.conv3d(t!, w!)),
  "F.convTranspose1d": on([x, turned.line], (t, w) => F.convTranspose1d(t!, w!, { stride: 2 })),
  "F.convTranspose2d": on([image, turned.plane], (t, w) => F.convTranspose2d(t!, w!, { padding: 1 })),
  "F.convTranspose3d": on([volume, turned.space], (t, w) => F.convTranspose3d(t!, w!)),
  "F.maxPool1d": one((t) => F.maxPool1d(t, 2)),
  "F.maxPool2d": on([image], (t) => F.maxPool2d(t!, 3, { stride: 2, padding: 1 })),
  "F.maxPool3d": on([volume], (t) => F.maxPool3d(t!, 2)),
  "F.avgPool1d": one((t) => F.avgPool1d(t, 2)),
  "F.avgPool2d": on([image], (t) => F.avgPool2d(t!, 3, { stride: 2, padding: 1 })),
  "F.avgPool3d": on([volume], (t) => F.avgPool3d(t!, 2)),
  "F.adaptiveAvgPool1d": one((t) => F.adaptiveAvgPool1d(t, 4)),
  "F.adaptiveAvgPool2d": on([image], (t) => F.adaptiveAvgPool2d(t!, [4, 5])),
  "F.adaptiveAvgPool3d": on([volume], (t) => F.adaptiveAvgPool3d(t!, 3)),
  "F.embedding": { inputs: [normal([8, 3])], whole: targets, apply: ([w], i) => F.embedding(i, w!) },
  "F.adaIN": on([image, normal([2, 4, 5])], (content, style) => F.adaIN(content!, style!)),
  "F.addLayerNorm": on([rows, normal([5, 8]), ...last()], (t, r, weight, bias) => {
    const { y, sum } = F.addLayerNorm(t!, r!, 8, { weight: weight!, bias: bias! });
    return y.add(sum);
  }),
  "F.addRmsNorm": on([rows, normal([5, 8]), normal([8])], (t, r, weight) => {
    const { y, sum } = F.addRmsNorm(t!, r!, 8, { weight: weight! });
    return y.add(sum);
  }),
  "F.film": on([image, normal([2, 4]), normal([2, 4])], (t, gamma, beta) => F.film(t!, gamma!, beta!)),
  "F.localResponseNorm": on([image], (t) => F.localResponseNorm(t!, 3)),
  "F.normalize": on([rows], (t) => F.normalize(t!)),
  "F.batchNorm": on([image, ...channel()], (t, weight, bias) =>
    F.batchNorm(t!, { weight: weight!, bias: bias!, training: true }),
  ),
  "F.instanceNorm": on([image, ...channel()], (t, weight, bias) =>
    F.instanceNorm(t!, { weight: weight!, bias: bias! }),
  ),
  "F.groupNorm": on([image, ...channel()], (t, weight, bias) => F.groupNorm(t!, 2, { weight: weight!, bias: bias! })),
  "F.layerNorm": on([rows, ...last()], (t, weight, bias) => F.layerNorm(t!, 8, { weight: weight!, bias: bias! })),
  "F.rmsNorm": on([rows, normal([8])], (t, weight) => F.rmsNorm(t!, 8, { weight: weight!, eps: 1e-6 })),
};

describe("ops", () => {
  for (const [name, { inputs, whole = targets, apply, tolerance = 1e-6 }] of Object.entries({
    ...methods,
    ...functions,
  })) {
    const dy = normal([4096]);
    testOnDevice({
      kind: "op",
      name,
      tolerance,
      // On the CPU in float64, from the same numbers.
      run: (device: DeviceName) => {
        manualSeed(7);
        const dtype = device === "cpu" ? "float64" : "float32";
        const leaves = inputs.map((t) => t.cast(dtype).to(device).detach());
        for (const leaf of leaves) leaf.requiresGrad = true;
        const y = apply(leaves, whole.to(device));
        if (y.requiresGrad) y.backward(dy.narrow(0, 0, y.size).reshape(y.shape).cast(dtype).to(device));
        return [y, ...leaves.flatMap((t) => (t.grad ? [t.grad] : []))];
      },
    });
  }
});

/** Methods that move numbers between devices and JavaScript, or keep the graph. */
const bookkeeping =
  "alias keep moveTo shareAs detach dispose dependencies belongings leaveScopes dataSync data toArray item assign adopt " +
  "toString emptyLike to toCPU backward registerPostAccumulateGradHook constructor";

test("every method of Tensor and every function that computes is among them", () => {
  const described = Object.entries(Object.getOwnPropertyDescriptors(Tensor.prototype));
  const names = described.filter(([, { value }]) => typeof value === "function").map(([name]) => name);
  expect(names.filter((name) => !bookkeeping.split(" ").includes(name) && !(`Tensor.${name}` in methods))).toEqual([]);
  expect(Object.keys(F).filter((name) => !(`F.${name}` in functions))).toEqual([]);
});
