import type { ActivationOp, BinaryOp, NormActivation, UnaryOp } from "../../../kernels/kernel_set.js";
import type { Context, Exporter, Inputs, Translations } from "./exporter.js";
import type { Graph, Value } from "./graph.js";

type UnaryForm = (g: Graph, x: Value) => Value;

const named =
  (op: string): UnaryForm =>
  (g, x) =>
    g.unary(op, x);

/** Below this |x| the sum 1 + x, or the difference e^x - 1, loses digits of x. */
const SMALL = 0.5;

const unaryForms: Readonly<Record<UnaryOp, UnaryForm>> = {
  neg: named("Neg"),
  abs: named("Abs"),
  sign: named("Sign"),
  square: (g, x) => g.square(x),
  sqrt: named("Sqrt"),
  rsqrt: (g, x) => g.unary("Reciprocal", g.sqrt(x)),
  reciprocal: named("Reciprocal"),
  exp: named("Exp"),
  log: named("Log"),
  // log(u) x / (u - 1) with u = fl(1 + x): the rounding of u cancels (Higham, Accuracy and Stability, 1.14.1).
  log1p(g, x) {
    const u = g.plus(x, 1);
    const exact = g.compare("Equal", u, g.scalar(1), g.real);
    const less = g.plus(u, -1);
    const wide = g.compare("Greater", u, g.scalar(1 + 2 * SMALL), g.real);
    const log = g.unary("Log", u);
    const scaled = g.mul(log, g.div(x, g.where(exact, g.scalar(1), less)));
    return g.where(exact, x, g.where(wide, log, scaled));
  },
  // 2 t / (1 - t) with t = tanh(x / 2), which keeps the digits of small x.
  expm1(g, x) {
    const small = g.compare("Less", g.unary("Abs", x), g.scalar(SMALL), g.real);
    const t = g.unary("Tanh", g.times(g.where(small, x, g.scalar(0)), 0.5));
    const near = g.div(g.times(t, 2), g.sub(g.scalar(1), t));
    return g.where(small, near, g.plus(g.unary("Exp", x), -1));
  },
  tanh: named("Tanh"),
  erf: named("Erf"),
  sigmoid: named("Sigmoid"),
  softplus: named("Softplus"),
  sin: named("Sin"),
  cos: named("Cos"),
  floor: named("Floor"),
  ceil: named("Ceil"),
  round: named("Round"),
  isNaN: (g, x) => g.cast(g.node("IsNaN", [x], x.shape, { type: "bool" }), x.type),
  not: (g, x) => g.cast(g.node("Not", [g.cast(x, "bool")], x.shape, { type: "bool" }), x.type),
};

/** Whole numbers are their own floor, and so on; these operators take none. */
const ofReals = new Set<UnaryOp>(["floor", "ceil", "round"]);

const unary =
  (op: UnaryOp): Exporter =>
  ({ g, out }, { x }) => {
    const input = g.cast(x!, g.typeOf(out.dtype));
    return input.type === "int32" && ofReals.has(op) ? input : unaryForms[op](g, input);
  };

const arithmetic: Partial<Record<BinaryOp, string>> = {
  ...{ add: "Add", sub: "Sub", mul: "Mul", div: "Div", pow: "Pow", maximum: "Max", minimum: "Min" },
};
const comparisons: Partial<Record<BinaryOp, string>> = {
  ...{ equal: "Equal", less: "Less", lessEqual: "LessOrEqual", greater: "Greater", greaterEqual: "GreaterOrEqual" },
};

/** Both operands in the type of the result, as the op itself has them. */
const operands = ({ g, out }: Context, { a, b }: Inputs): [Value, Value] => {
  const type = g.typeOf(out.dtype);
  return [g.cast(a!, type), g.cast(b!, type)];
};

const binaries: Translations = {
  ...Object.fromEntries(
    Object.entries(arithmetic).map(([name, op]): [string, Exporter] => [
      name,
      (context, inputs) => context.g.binary(op, ...operands(context, inputs)),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(comparisons).map(([name, op]): [string, Exporter] => [
      name,
      (context, inputs) => {
        const [a, b] = operands(context, inputs);
        return context.g.compare(op, a, b, a.type);
      },
    ]),
  ),
  notEqual: (context, inputs) => {
    const { g } = context;
    const [a, b] = operands(context, inputs);
    const equal = g.binary("Equal", a, b, "bool");
    return g.cast(g.node("Not", [equal], equal.shape), a.type);
  },
};

const TANH_SCALE = Math.sqrt(2 / Math.PI);

const activations: Readonly<Record<ActivationOp, (g: Graph, x: Value, alpha: number) => Value>> = {
  relu: named("Relu"),
  leakyRelu: (g, x, alpha) => g.unary("LeakyRelu", x, { alpha }),
  gelu(g, x) {
    if (g.opset >= 20) return g.unary("Gelu", x, { approximate: "none" });
    return g.mul(x, g.times(g.plus(g.unary("Erf", g.times(x, Math.SQRT1_2)), 1), 0.5));
  },
  geluTanh(g, x) {
    if (g.opset >= 20) return g.unary("Gelu", x, { approximate: "tanh" });
    const inner = g.mul(x, g.plus(g.times(g.square(x), 0.044715), 1));
    return g.mul(x, g.times(g.plus(g.unary("Tanh", g.times(inner, TANH_SCALE)), 1), 0.5));
  },
  silu: (g, x) => g.mul(x, g.unary("Sigmoid", x)),
  sigmoid: named("Sigmoid"),
  tanh: named("Tanh"),
};

/** What a normalization's result goes through; x itself where nothing follows. */
export const activated = (g: Graph, x: Value, activation: NormActivation | null | undefined): Value =>
  activation ? activations[activation.op](g, x, activation.alpha) : x;

export const elementwise: Translations = {
  ...Object.fromEntries((Object.keys(unaryForms) as UnaryOp[]).map((op) => [op, unary(op)])),
  ...binaries,
  where: (context, inputs) => context.g.where(inputs.condition!, ...operands(context, inputs)),
  cast: ({ g, out }, { x }) => g.cast(x!, g.typeOf(out.dtype)),
  activation: ({ g, out }, { x }, options: NormActivation) => activated(g, g.cast(x!, g.typeOf(out.dtype)), options),
  softmax({ g }, { x }, { log }: { log: boolean }) {
    return g.unary(log ? "LogSoftmax" : "Softmax", x!, { axis: x!.shape.length - 1 });
  },
  dynamic_activation(context, { x, alpha, shift, weight, bias }, { op }: { op: "tanh" | "erf" }) {
    const { g } = context;
    const scaled = g.mul(x!, alpha!);
    const f = g.unary(op === "tanh" ? "Tanh" : "Erf", shift ? g.add(scaled, shift) : scaled);
    const weighed = weight ? g.mul(f, weight) : f;
    return bias ? g.add(weighed, bias) : weighed;
  },
  scale_gradient: (_context, { x }) => x!,
  tlu: "composed",
  gate: "composed",
  evo_ratio: "composed",
  dropout: { reason: "it draws random numbers; a Dropout layer is left out when its model evaluates" },
};
