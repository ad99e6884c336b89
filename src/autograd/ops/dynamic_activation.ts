import { mixable } from "../../base/dtype.js";
import { numberOfElements, type Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { DynamicPlan } from "../../kernels/kernel_set.js";
import { everyTime } from "../../kernels/tape.js";
import { heap } from "../../memory/heap.js";
import { layerView } from "../../norm/views.js";
import { isRecording } from "../graph.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkInputs } from "./fused_norm.js";

type Inputs = { x: Tensor; alpha: Tensor; shift: Tensor | null; weight: Tensor | null; bias: Tensor | null };
type Saved = Omit<Inputs, "bias">;

interface Options {
  readonly op: "tanh" | "erf";
  /** Lengths of the last axes, which weight and bias lie along. */
  readonly normalizedShape: Shape;
}

const argument = ({ x, alpha, shift }: Saved): Tensor => {
  const scaled = x.mul(alpha);
  return shift ? scaled.add(shift) : scaled;
};

/** f'(z). 1 - tanh^2 loses digits where tanh nears 1, but only of slopes that have vanished beside the others. */
const slope = (op: Options["op"], z: Tensor): Tensor =>
  op === "tanh"
    ? z.tanh().square().neg().add(1)
    : z
        .square()
        .neg()
        .exp()
        .mul(2 / Math.sqrt(Math.PI));

/**
 * A bounded function in the place of normalization: y = weight * f(z) + bias, z = alpha x + shift, f tanh or erf, alpha
 * and shift one number each. With h = weight * dy * f'(z):
 *   dx = alpha h, dalpha = sum of h x, dshift = sum of h, dweight = sum of dy f(z), dbias = sum of dy.
 *
 * Shapes: x and y [..., ...normalizedShape]; weight and bias normalizedShape, each optional; alpha and shift [1].
 * Saves:  the inputs. z and f(z) are as large as x and are computed again.
 * Throws: ShapeError if x does not end in normalizedShape.
 * Source: Zhu et al. 2025, arXiv:2503.10622 (tanh); Chen et al. 2025, arXiv:2512.10938 (erf).
 */
export const dynamicActivation = defineOp<Inputs, Options, Saved>({
  name: "dynamic_activation",
  forward({ x, alpha, shift, weight, bias }, { op, normalizedShape }) {
    layerView(x.shape, normalizedShape);
    checkInputs("dynamic_activation", { x, weight, bias }, normalizedShape, mixable);
    checkInputs("dynamic_activation", { x, alpha, shift }, [1], mixable);
    const saved = { x, alpha, shift, weight };
    if (x.device !== "cpu") return { out: composed(saved, bias, op).cast(x.dtype), saved };
    const out = Tensor.empty(x.shape, x.dtype);
    const slots = [x.storage, weight?.storage ?? null, bias?.storage ?? null, out.storage] as const;
    const plan = planOf(saved, { op, normalizedShape });
    everyTime(() => kernels.dynamicActivation(...slots, plan()));
    return { out, saved };
  },
  backward(dy, saved, options, needs) {
    // Under createGraph the formula in differentiable ops, so that it can be differentiated again; and on other devices,
    // where the kernel's plan would have to wait for alpha and shift.
    if (isRecording() || dy.device !== "cpu") return recordedGradients(dy, saved, options);
    const { x, weight } = saved;
    const { normalizedShape } = options;
    const dx = needs.x ? Tensor.empty(x.shape, x.dtype) : null;
    const dWeight = needs.weight ? Tensor.empty(normalizedShape, x.dtype) : null;
    const dBias = needs.bias ? Tensor.empty(normalizedShape, x.dtype) : null;
    const out = { dx: dx?.storage ?? null, dWeight: dWeight?.storage ?? null, dBias: dBias?.storage ?? null };
    const sums = Tensor.empty([2], "float64");
    const plan = planOf(saved, options);
    const slots = [x.storage, dy.storage, weight?.storage ?? null, out, sums.storage] as const;
    everyTime(() => kernels.dynamicActivationGrad(...slots, plan()));
    return {
      x: () => dx!,
      alpha: () => sums.narrow(0, 0, 1).cast(x.dtype),
      shift: () => sums.narrow(0, 1, 1).cast(x.dtype),
      weight: () => dWeight!,
      bias: () => dBias!,
    };
  },
  twiceDifferentiable: true,
});

function composed(saved: Saved, bias: Tensor | null, op: Options["op"]): Tensor {
  const value = argument(saved)[op]();
  const scaled = saved.weight ? value.mul(saved.weight) : value;
  return bias ? scaled.add(bias) : scaled;
}

/** The plan with alpha and shift as they are when it is asked for. */
function planOf({ x, alpha, shift }: Saved, { op, normalizedShape }: Options): () => DynamicPlan {
  const size = numberOfElements(normalizedShape);
  const rows = x.size / size;
  const [a, b] = [alpha.storage, shift?.storage ?? null];
  return () => ({ op, rows, size, alpha: heap.read(a, 0), shift: b ? heap.read(b, 0) : 0 });
}

function recordedGradients(dy: Tensor, saved: Saved, { op, normalizedShape }: Options) {
  const { x, alpha, weight } = saved;
  const z = argument(saved);
  const h = (weight ? dy.mul(weight) : dy).mul(slope(op, z));
  return {
    x: () => h.mul(alpha).cast(x.dtype),
    alpha: () => h.mul(x).sumTo([1]).cast(alpha.dtype),
    shift: () => h.sumTo([1]).cast(alpha.dtype),
    weight: () => dy.mul(z[op]()).sumTo(normalizedShape).cast(weight!.dtype),
    bias: () => dy.cast((weight ?? alpha).dtype).sumTo(normalizedShape),
  };
}
