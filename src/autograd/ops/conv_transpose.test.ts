import { describe, expect, test } from "vitest";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { tensor, zeros } from "../index.js";
import { conv } from "./conv.js";
import { type ConvTransposeOptions, convTranspose } from "./conv_transpose.js";

function transposeCase(x: Shape, weight: Shape, options: ConvTransposeOptions = {}, bias = true): OpCase {
  const note = [...Object.entries(options).map(([k, v]) => `${k} ${v}`), bias ? "bias" : "no bias"].join(", ");
  return {
    name: `x [${x}], weight [${weight}], ${note}`,
    inputs: [normal(x), normal(weight), ...(bias ? [normal([weight[1]! * (options.groups ?? 1)])] : [])],
    apply: (...[a, w, b]) => convTranspose(a!, w!, b ?? null, options),
  };
}

checkOps("conv_transpose", [
  transposeCase([2, 3, 5], [3, 2, 3], { stride: 2, padding: 1, outputPadding: 1 }),
  transposeCase([2, 3, 4, 3], [3, 2, 3, 3]),
  transposeCase([1, 2, 3, 5], [2, 3, 2, 3], { stride: [2, 3], padding: [0, 1], outputPadding: [1, 2] }, false),
  transposeCase([1, 4, 3, 3], [4, 2, 3, 3], { groups: 2, dilation: 2, outputPadding: 1 }),
  transposeCase([3, 4, 4], [3, 1, 2, 2], { stride: 2 }),
  transposeCase([1, 2, 2, 3, 2], [2, 2, 2, 2, 2], { stride: 2, padding: 1 }),
]);

describe("conv_transpose", () => {
  test("is the adjoint of the convolution with its weight: <conv x, y> = <x, convTranspose y>", () => {
    const options = { stride: [2, 1], padding: [1, 2], dilation: [1, 2] };
    const [x, w] = [normal([2, 4, 7, 9]), normal([3, 4, 3, 2])];
    const y = conv(x, w, null, options);
    const other = normal(y.shape);
    const back = convTranspose(other, w, null, options);
    expect(back.shape).toEqual(x.shape);
    expect(back.mul(x).sum().item()).toBeCloseTo(y.mul(other).sum().item(), 9);
  });

  test("stride 2 spreads the input and outputPadding appends", () => {
    const x = tensor([1, 2, 3], { shape: [1, 1, 3] });
    const weight = tensor([1, 10], { shape: [1, 1, 2] });
    const y = convTranspose(x, weight, tensor([100]), { stride: 2, outputPadding: 1 });
    expect(y.toArray()).toEqual([[[101, 110, 102, 120, 103, 130, 100]]]);
  });

  const w = zeros([3, 2, 3, 3]);
  test.each([
    ["channels", () => convTranspose(zeros([1, 2, 4, 4]), w), /takes 3 input channels.*\[1, 2, 4, 4\]/],
    ["outputPadding", () => convTranspose(zeros([1, 3, 4, 4]), w, null, { outputPadding: 1 }), /smaller than stride/],
    ["padding", () => convTranspose(zeros([1, 3, 1, 1]), w, null, { padding: 2 }), /at least length 1.*\[-1, -1\]/],
    ["bias", () => convTranspose(zeros([1, 3, 4, 4]), w, zeros([3])), /bias of shape \[2\]/],
  ])("says what is wrong with %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
