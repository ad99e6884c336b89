import { describe, expect, test } from "vitest";
import { awkwardSizes, relativeError } from "../../../tests/conformance/harness.js";
import { awayFromZero, checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import { grad, tensor } from "../index.js";
import { activation } from "./activation.js";

const ops = ["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"] as const;

checkOps(
  "activation",
  ops.flatMap((op): OpCase[] =>
    awkwardSizes
      .filter((n) => n < 100)
      .map((n) => ({ name: `${op} of ${n}`, inputs: [awayFromZero([n])], apply: (x) => activation(x!, op, 0.2) })),
  ),
);

describe("activation", () => {
  test.each(ops)("%s: the recorded backward gives the kernel's gradient", (op) => {
    const x = tensor([-700, -30, -8, -2.5, -0.5, 0, 1e-3, 0.7, 3, 9, 40, 700], {
      dtype: "float64",
      requiresGrad: true,
    });
    const dy = normal(x.shape);
    const by = (createGraph: boolean) => grad(activation(x, op, 0.2), x, { gradOutput: dy, createGraph }).dataSync();
    expect(relativeError(by(true), by(false))).toBeLessThanOrEqual(1e-14);
  });

  test("slopes at 0, and values by hand", () => {
    const x = tensor([-2, 0, 2], { dtype: "float64", requiresGrad: true });
    const ones = tensor([1, 1, 1], { dtype: "float64" });
    expect(grad(activation(x, "relu"), x, { gradOutput: ones }).toArray()).toEqual([0, 0, 1]);
    expect(grad(activation(x, "leakyRelu", 0.25), x, { gradOutput: ones }).toArray()).toEqual([0.25, 0.25, 1]);
    // gelu(2) = 2 Phi(2), Phi(2) = 0.977249868051820792799...
    expect(activation(x, "gelu").dataSync()[2]).toBeCloseTo(1.9544997361036416, 14);
    expect(activation(x, "silu").dataSync()[2]).toBeCloseTo(2 / (1 + Math.exp(-2)), 15);
  });

  test("int32 becomes float32 and carries no gradient", () => {
    const y = activation(tensor([-1, 2], { dtype: "int32" }), "relu");
    expect(y.dtype).toBe("float32");
    expect(y.requiresGrad).toBe(false);
  });
});
