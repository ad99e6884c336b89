import { defineOp, full, type Op, type Tensor } from "../../../autograd/index.js";
import { dropout } from "../../../autograd/ops/dropout.js";
import { UnsupportedKernel } from "../../../base/errors.js";
import { checkProbability } from "../../../base/options.js";
import { type ElementName, elementTypes } from "../../elements.js";
import { type Attributes, int, needed, optional, text } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { elementNameOf, elementNumbers } from "../tensor_proto.js";
import {
  computed,
  floatTensor,
  isFloat,
  isFloatType,
  limitsOf,
  numbersIn,
  truth,
  typeOf,
  type Value,
  Whole,
} from "../value.js";

/** x rounded to a shorter float and held as it was; its gradient is dy, as of any cast. Saves nothing. */
const rounded: Op<{ x: Tensor }, { type: "float16" | "bfloat16" }, undefined> = defineOp<
  { x: Tensor },
  { type: "float16" | "bfloat16" }
>({
  name: "round_to_short_float",
  forward({ x }, { type }) {
    const out = x.emptyLike();
    const { encode, decode } = elementTypes[type];
    out.storage.view.set(decode(encode(x.storage.view), "a tensor", 0));
    return { out };
  },
  backward: (dy) => ({ x: () => dy }),
  twiceDifferentiable: true,
});

function castFloat(x: Tensor, to: ElementName): Value {
  if (to === "float64") return x.cast("float64");
  if (to === "float32") return x.cast("float32");
  if (to === "float16" || to === "bfloat16") return rounded({ x: x.cast("float32") }, { type: to });
  const numbers = numbersIn(x);
  if (to === "bool") return truth(x.shape, (i) => numbers[i] !== 0);
  const [least, most] = limitsOf(to as never);
  // What lies outside has no meaning in ONNX: the nearest number here, and 0 for NaN.
  const whole = (v: number): number => (Number.isNaN(v) ? 0 : Math.min(most, Math.max(least, Math.trunc(v))));
  return computed(to as never, x.shape, (i) => whole(numbers[i]!));
}

function castTo(x: Value, to: ElementName): Value {
  if (isFloat(x)) return castFloat(x, to);
  if (!(x instanceof Whole)) throw new UnsupportedKernel({ rule: "Casts are from numbers", got: typeOf(x) });
  if (isFloatType(to)) return castFloat(floatTensor(x, to === "float64" ? "float64" : "float32"), to);
  const { data, shape, type } = x;
  if (to === type) return x;
  return to === "bool" ? truth(shape, (i) => data[i] !== 0) : computed(to, shape, (i) => data[i]!);
}

const TEXT = 8;
const readTypes: readonly number[] = Object.values(elementNumbers);

const lacks = (attributes: Attributes): string | null => {
  const to = attributes.get("to") as number;
  if (readTypes.includes(to)) return null;
  return to === TEXT ? "a cast to text" : `a cast to element type ${to}`;
};

/** y and, where it is asked for, which elements stay. The seed of the file is not used: manualSeed sets all random numbers. */
function droppedOut(call: Call): (Value | null)[] {
  const x = call.tensor(0);
  const p = checkProbability("ratio", call.has(1) ? call.number(1) : 0.5);
  const drops = call.training || (call.has(2) && call.number(2) !== 0);
  if (call.outputs < 2) return [drops ? dropout(x, p) : x];
  if (!drops || p === 0) return [x, truth(x.shape, () => true)];
  const mask = dropout(full(x.shape, 1, { dtype: x.dtype, device: x.device }), p);
  const kept = numbersIn(mask);
  return [x.mul(mask), truth(x.shape, (i) => kept[i] !== 0)];
}

export const castOperators: OperatorTable = {
  Cast: {
    since: 6,
    inputs: [1, 1],
    attributes: {
      to: needed("int"),
      // Both are about floats of 8 bits and less.
      saturate: { ...int(1), since: 19 },
      round_mode: { ...text("up"), since: 24 },
    },
    passes: true,
    lacks,
    run: (call) => castTo(call.value(0), elementNameOf(call.int("to"), "the model", "attribute to")),
  },
  CastLike: {
    since: 15,
    inputs: [2, 2],
    attributes: { saturate: { ...int(1), since: 19 }, round_mode: { ...text("up"), since: 24 } },
    run: (call) => castTo(call.value(0), typeOf(call.value(1))),
  },
  Identity: { since: 1, inputs: [1, 1], passes: true, run: (call) => call.value(0) },
  Dropout: {
    since: 7,
    inputs: [1, 3],
    outputs: 2,
    attributes: { seed: optional("int", { since: 12 }) },
    moved: { ratio: { kind: "float", input: 1, at: 12, fallback: 0.5 } },
    varies: true,
    run: droppedOut,
  },
};
