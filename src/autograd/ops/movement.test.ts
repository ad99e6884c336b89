import { describe, expect, test } from "vitest";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import { arange, concat, stack, type Tensor, tensor, zeros } from "../index.js";

const one = (name: string, shape: number[], apply: (x: Tensor) => Tensor): OpCase => ({
  name: `${name} of [${shape}]`,
  inputs: [normal(shape)],
  // The square makes the second derivative something else than zero.
  apply: (x) => apply(x!).square(),
});

checkOps("movement", [
  one("reshape", [3, 4], (x) => x.reshape([2, -1])),
  one("permute", [2, 3, 4], (x) => x.permute([2, 0, 1])),
  one("transpose", [5, 17], (x) => x.transpose()),
  one("expand", [3, 1], (x) => x.expand([2, 3, 4])),
  one("slice", [5, 7], (x) => x.slice([1, -4], [3, 2])),
  one("narrow", [3, 33], (x) => x.narrow(1, 2, 17)),
  one("pad", [2, 3], (x) =>
    x.pad(
      [
        [1, 0],
        [2, 3],
      ],
      0.5,
    ),
  ),
  one("flip", [3, 4, 2], (x) => x.flip([0, -1])),
  one("flatten", [2, 3, 4], (x) => x.flatten(1)),
  {
    name: "concat along 1",
    inputs: [normal([2, 3]), normal([2, 1]), normal([2, 5])],
    apply: (...xs) => concat(xs, 1).square(),
  },
  {
    name: "one tensor twice",
    inputs: [normal([2, 3])],
    apply: (x) => x!.concat(x!.square()).square(),
  },
  { name: "stack", inputs: [normal([4]), normal([4])], apply: (...xs) => stack(xs, -1).square() },
  { name: "cast there and back", inputs: [normal([5])], apply: (x) => x!.cast(x!.dtype).square() },
]);

describe("movement", () => {
  const x = arange(12).reshape([3, 4]);

  test("values by hand", () => {
    expect(x.transpose().toArray()).toEqual([
      [0, 4, 8],
      [1, 5, 9],
      [2, 6, 10],
      [3, 7, 11],
    ]);
    expect(x.slice([1, 2]).toArray()).toEqual([
      [6, 7],
      [10, 11],
    ]);
    expect(x.flip(1).slice([0, 0], [1, -1]).toArray()).toEqual([[3, 2, 1, 0]]);
    expect(
      tensor([1, 2])
        .pad([[1, 2]], 9)
        .toArray(),
    ).toEqual([9, 1, 2, 9, 9]);
    expect(stack([tensor([1, 2]), tensor([3, 4])], 1).toArray()).toEqual([
      [1, 3],
      [2, 4],
    ]);
  });

  test("a gradient through a cast comes back in the input's type", () => {
    const half = tensor([1.5, 2.5], { requiresGrad: true });
    half.cast("float64").square().sum().backward();
    expect(half.grad!.dtype).toBe("float32");
    expect(half.grad!.toArray()).toEqual([3, 5]);
    expect(half.cast("int32").requiresGrad).toBe(false);
    expect(tensor([1.9, -1.9]).cast("int32").toArray()).toEqual([1, -1]);
  });

  test.each([
    ["reshape", () => x.reshape([5, -1]), /\[3, 4\] \(12 elements\) to \[5, -1\]/],
    ["permute", () => x.permute([0, 0]), /each of the 2 axes once; got \[0, 0\]/],
    ["expand", () => x.expand([3, 8]), /broadcast.*\[3, 4\] and \[3, 8\]/],
    ["slice", () => x.slice([2, 0], [2, 1]), /inside the tensor.*start \[2, 0\], size \[2, 1\] of shape \[3, 4\]/],
    ["narrow", () => x.narrow(1, 3, 2), /inside the tensor/],
    ["pad", () => x.pad([[1, 1]]), /pair of at least 0 for each of the 2 axes; got \[\[1,1\]\]/],
    ["concat", () => concat([x, zeros([3, 4, 1])], 0), /equal lengths on all other axes.*\[3, 4\], \[3, 4, 1\]/],
    ["concat types", () => concat([x, x.cast("float64")]), /one type; got float32 and float64/],
    ["concat of none", () => concat([]), /at least one tensor; got none/],
  ])("%s says what is wrong", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
