import { describe, expect, it } from "vitest";
import { grad, noGrad, Random, randn, scope, type Tensor, tensor } from "../../src/index.js";
import { loadOnnx } from "../../src/io/index.js";
import { type Case, cases } from "./onnx_cases.js";
import { modelBytes, type Numbers } from "./onnx_model.js";

/** Steps have no slope, and what is given for them is not a derivative. */
const flat = new Set([
  "Floor",
  "Ceil",
  "Round",
  "Sign",
  "EyeLike",
  "ConstantOfShape",
  "Range",
  "Cast",
  "CastLike",
  "OneHot",
]);
/** Inputs that are constants to the gradient; a power of a negative number is one of whole exponents only. */
const constants: Readonly<Record<string, readonly string[]>> = {
  BatchNormalization: ["x3", "x4"],
  Clip: ["x1", "x2"],
  Pad: ["x2"],
  Pow: ["x1"],
};
const STEP = 1e-5;

/** One operator with all its inputs given, in double. */
function build({ op, inputs, attributes = {}, outputs = 1, domain = "" }: Case, opset: number) {
  const names = inputs.map((v, i) => (v ? `x${i}` : ""));
  const given = inputs.flatMap((v, i): [string, Numbers][] => (v ? [[`x${i}`, v]] : []));
  const results = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const model = loadOnnx(
    modelBytes({
      ...{ opset, domains: domain ? { [domain]: 1 } : {}, outputs: results },
      nodes: [{ op, domain, attributes, inputs: names, outputs: results }],
      inputs: Object.fromEntries(given.map(([name, v]) => [name, { type: v.type, shape: v.shape }])),
    }),
  );
  return { model, given };
}

const made = ({ type, shape, data }: Numbers): Tensor =>
  tensor(data, { shape, dtype: type === "float32" ? "float64" : "int32" });

/** Cases with a float to go back to; what moves a scale or counts along an axis is no smooth function of it. */
const smooth = cases.filter(
  (c) => !flat.has(c.op) && !(c.op === "Resize" || c.op === "Upsample") && c.inputs.some((v) => v?.type === "float32"),
);

describe("gradients against central differences in double", () => {
  it.each(smooth.map((c, i) => [c.op, i] as const))("%s (%i)", (_op, number) => {
    const one = smooth[number]!;
    const { model, given } = build(one, one.opsets[0]!);
    const random = new Random(number);
    // Infinite numbers and NaN have no differences.
    if (given.some(([, v]) => v.data.some((x) => !Number.isFinite(x)))) return;
    scope(() => {
      const tensors = Object.fromEntries(given.map(([name, v]) => [name, made(v)]));
      const floats = Object.entries(tensors)
        .filter(([, t]) => t.dtype === "float64" && t.size > 0)
        .filter(([name]) => !constants[one.op]?.includes(name));
      for (const [, t] of floats) t.requiresGrad = true;
      const y = Object.values(model.run(tensors))[0]!;
      if (y.dtype === "int32" || y.vertex.node === null) return;
      const cotangent = randn(y.shape, { dtype: "float64", random });
      const gradients = grad(
        y,
        floats.map(([, t]) => t),
        { gradOutput: cotangent },
      );
      const value = (name: string, changed: Tensor): number =>
        noGrad(() =>
          scope(() =>
            Object.values(model.run({ ...tensors, [name]: changed }))[0]!
              .mul(cotangent)
              .sum()
              .item(),
          ),
        );
      for (const [i, [name, t]] of floats.entries()) {
        const numbers = t.dataSync();
        const g = gradients[i]!.dataSync();
        for (let tries = 0; tries < 3; tries++) {
          const at = random.below(t.size);
          const moved = (by: number): number => {
            const next = numbers.slice();
            next[at]! += by;
            return value(name, tensor(next, { shape: t.shape, dtype: "float64" }));
          };
          const slope = (moved(STEP) - moved(-STEP)) / (2 * STEP);
          expect(Math.abs(g[at]! - slope), `${name} at ${at}: ${g[at]} for ${slope}`).toBeLessThan(
            1e-6 * Math.max(1, Math.abs(slope)),
          );
        }
      }
    });
    model.dispose();
  });
});
