import { describe, expect, test } from "vitest";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { ones, tensor, zeros } from "../index.js";
import { type ConvOptions, conv } from "./conv.js";

function convCase(x: Shape, weight: Shape, options: ConvOptions = {}, bias = true): OpCase {
  const note = [...Object.entries(options).map(([k, v]) => `${k} ${v}`), bias ? "bias" : "no bias"].join(", ");
  return {
    name: `x [${x}], weight [${weight}], ${note}`,
    inputs: [normal(x), normal(weight), ...(bias ? [normal([weight[0]!])] : [])],
    apply: (...[a, w, b]) => conv(a!, w!, b ?? null, options),
  };
}

checkOps("conv", [
  convCase([2, 3, 9], [4, 3, 3]),
  convCase([2, 2, 17], [5, 2, 4], { stride: 3, padding: 2, dilation: 2 }, false),
  convCase([3, 7], [2, 3, 3], { padding: "same" }),
  convCase([2, 4, 5, 5], [3, 4, 3, 3]),
  convCase([1, 1, 1, 1], [1, 1, 1, 1]),
  convCase([2, 3, 5, 7], [4, 3, 2, 3], { stride: [2, 1], padding: [1, 0], dilation: [1, 2] }),
  convCase([1, 6, 5, 4], [4, 3, 3, 3], { groups: 2, padding: 1 }),
  convCase([1, 5, 4, 4], [5, 1, 3, 3], { groups: 5, padding: 1, stride: 2 }),
  convCase([2, 2, 5, 6], [3, 2, 2, 4], { padding: "same" }),
  convCase([2, 2, 5, 6], [3, 2, 2, 4], { padding: "same", dilation: [3, 1] }),
  convCase([2, 2, 4, 4], [3, 2, 3, 3], { padding: "valid" }),
  convCase([1, 2, 3, 4, 3], [3, 2, 2, 2, 2], { stride: [1, 2, 1], padding: [0, 1, 1] }),
  convCase([1, 3, 5, 33], [2, 3, 1, 1], {}, false),
]);

describe("conv", () => {
  test("a kernel that picks one neighbour shifts the image, also with padding same", () => {
    const x = tensor([1, 2, 3, 4, 5], { shape: [1, 1, 5] });
    const weight = tensor([0, 0, 0, 1], { shape: [1, 1, 4] });
    expect(conv(x, weight).toArray()).toEqual([[[4, 5]]]);
    // One zero before and two behind: kernel 4 reaches two further on the right.
    expect(conv(x, weight, null, { padding: "same" }).toArray()).toEqual([[[3, 4, 5, 0, 0]]]);
  });

  test("an empty batch gives an empty result and zero gradients", () => {
    const weight = ones([2, 3, 3, 3], { requiresGrad: true });
    const y = conv(zeros([0, 3, 5, 5]), weight);
    expect(y.shape).toEqual([0, 2, 3, 3]);
    y.sum().backward();
    expect(Math.max(...weight.grad!.dataSync())).toBe(0);
  });

  const x = zeros([1, 3, 4, 4]);
  const w = zeros([2, 3, 3, 3]);
  test.each([
    ["channels", () => conv(zeros([1, 4, 4, 3]), w), /takes 3 input channels.*got.*\[1, 4, 4, 3\].*permute/],
    ["rank", () => conv(zeros([4, 4]), w), /\[batch, channels, height and width\].*\[4, 4\]/],
    ["size", () => conv(zeros([1, 3, 2, 2]), w), /window fits into.*\[2, 2\]/],
    ["types", () => conv(x.cast("float64"), w), /one floating-point type.*float64, float32/],
    ["groups", () => conv(x, w, null, { groups: 3 }), /3 groups takes 9 input channels/],
    ["bias", () => conv(x, w, zeros([3])), /bias of shape \[2\]; got \[3\]/],
    ["stride", () => conv(x, w, null, { stride: 0 }), /stride must be a whole number of at least 1.*got 0/],
    ["padding list", () => conv(x, w, null, { padding: [1, 1, 1] }), /or a list of 2; got \[1, 1, 1\]/],
    ["padding word", () => conv(x, w, null, { padding: "full" as "same" }), /"same" or "valid"; got "full"/],
    ["same with stride", () => conv(x, w, null, { padding: "same", stride: 2 }), /"same" needs stride 1/],
    ["weight", () => conv(x, zeros([3, 3])), /1 to 3 kernel axes; got \[3, 3\]/],
  ])("says what is wrong with %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
