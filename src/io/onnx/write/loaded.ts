import { UnsupportedKernel } from "../../../base/errors.js";
import { contiguousStrides, numberOfElements, type Shape } from "../../../base/shape.js";
import type { StridedPlan } from "../../../kernels/kernel_set.js";
import type { Translation, Translations } from "./exporter.js";
import { BEFORE_ALL } from "./movement.js";

const angles = ["Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"];

/** The ops of models that loadOnnx has read, beside those that all have: ../operators/host_ops.ts. */
export const loaded: Translations = {
  ...Object.fromEntries(
    angles.map((op): [string, Translation] => [op.toLowerCase(), ({ g }, { x }) => g.unary(op, x!)]),
  ),
  strided_slice({ g, out }, { x }, { from, plan }: { from: Shape; plan: StridedPlan }) {
    const own = contiguousStrides(from);
    const axes = from.flatMap((d, i) => (plan.shape[i] === d && plan.strides[i] === own[i] ? [] : [i]));
    let rest = plan.offset;
    const starts = own.map((stride) => {
      const start = stride > 0 ? Math.floor(rest / stride) : 0;
      rest -= start * stride;
      return start;
    });
    const steps = axes.map((a) => plan.strides[a]! / own[a]!);
    const ends = axes.map((a, i) => {
      const end = starts[a]! + plan.shape[a]! * steps[i]!;
      return end < 0 ? BEFORE_ALL : end;
    });
    const first = axes.map((a) => starts[a]!);
    return g.slice(x!, axes, first, ends, out.shape, steps);
  },
  cumulative_sum({ g }, { x }, o: { length: number; inner: number; reverse: boolean; exclusive: boolean }) {
    const outer = numberOfElements(x!.shape) / (o.length * o.inner);
    const planes = g.reshape(x!, [outer, o.length, o.inner]);
    const attributes = { reverse: o.reverse ? 1 : 0, exclusive: o.exclusive ? 1 : 0 };
    const sums = g.node("CumSum", [planes, g.list([1], [], "int64")], planes.shape, attributes);
    return g.reshape(sums, x!.shape);
  },
  remainder({ g }, { a, b }, { floored }: { floored: boolean }) {
    if (!floored) return g.node("Mod", [a!, b!], a!.shape, { fmod: 1 });
    // Mod of floating-point numbers has the sign of a: b is added where the signs differ.
    const rest = g.node("Mod", [a!, b!], a!.shape, { fmod: 1 });
    const wrong = g.compare("Less", g.mul(rest, b!), g.scalar(0), rest.type);
    return g.where(wrong, g.add(rest, b!), rest);
  },
  round_to_short_float: { reason: "numbers rounded to float16 or bfloat16 on the way are not written" },
  scatter_add({ g }, { x, updates, places }) {
    if (g.opset < 16) {
      throw new UnsupportedKernel({
        rule: "ONNX adds numbers at places from opset 16 on",
        got: `opset ${g.opset}`,
        fix: "Export with { opset: 17 }",
      });
    }
    const size = numberOfElements(x!.shape);
    const inputs = [g.reshape(x!, [size]), places!, updates!];
    const sums = g.node("ScatterElements", inputs, [size], { axis: 0, reduction: "add" });
    return g.reshape(sums, x!.shape);
  },
};
