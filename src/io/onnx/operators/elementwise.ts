import { type Tensor, where } from "../../../autograd/index.js";
import { unary } from "../../../autograd/ops/elementwise.js";
import { DTypeError } from "../../../base/errors.js";
import { broadcastShapes, type Shape, sameShape } from "../../../base/shape.js";
import { int } from "../attributes.js";
import type { Call } from "../call.js";
import type { Operator, OperatorTable } from "../operator.js";
import {
  broadcastStrides,
  checkOneType,
  checkRoom,
  computed,
  expanded,
  int32Tensor,
  isFloat,
  numbersIn,
  stridedPlaces,
  truth,
  typeOf,
  type Value,
  Whole,
  wholeArray,
} from "../value.js";
import { angles, remainder } from "./host_ops.js";

type Pair = (a: number, b: number) => number;

/** The shape of two values together, and where each of its elements comes from in them. */
function meeting(a: Value, b: Value): { shape: Shape; left: (i: number) => number; right: (i: number) => number } {
  const shape = broadcastShapes(a.shape, b.shape);
  checkRoom(shape);
  const reader = (value: Value): ((i: number) => number) => {
    const numbers = numbersIn(value);
    if (sameShape(value.shape, shape)) return (i) => numbers[i]!;
    if (value.size === 1) return () => numbers[0]!;
    const places = stridedPlaces(shape, broadcastStrides(value.shape, shape));
    return (i) => numbers[places[i]!]!;
  };
  return { shape, left: reader(a), right: reader(b) };
}

/** Whole numbers of one type, one by one. */
function pairwise(a: Value, b: Value, f: Pair): Whole {
  const [first, second] = [a, b];
  if (!(first instanceof Whole && second instanceof Whole && first.type === second.type)) {
    throw new DTypeError({ rule: "The inputs are of one type", got: `${typeOf(a)} and ${typeOf(b)}` });
  }
  const { shape, left, right } = meeting(a, b);
  return computed(first.type, shape, (i) => f(left(i), right(i)));
}

interface Arithmetic {
  readonly since: number;
  readonly float: (a: Tensor, b: Tensor) => Tensor;
  readonly whole: Pair;
  readonly learned?: readonly number[];
}

function combine(a: Value, b: Value, { float, whole }: Arithmetic): Value {
  if (!isFloat(a) || !isFloat(b)) return pairwise(a, b, whole);
  checkRoom(broadcastShapes(a.shape, b.shape));
  return float(a, b);
}

const quotient: Pair = (a, b) => {
  if (b === 0) throw new DTypeError({ rule: "Whole numbers are divided by others than 0", got: `${a} / 0` });
  // Exact, where a / b would round.
  return (a - (a % b)) / b;
};

/** Both inputs are learned where they are initializers: weights and biases that an exporter wrote out. */
const both = [0, 1];
const arithmetic: Readonly<Record<string, Arithmetic>> = {
  Add: { since: 7, float: (a, b) => a.add(b), whole: (a, b) => a + b, learned: both },
  Sub: { since: 7, float: (a, b) => a.sub(b), whole: (a, b) => a - b, learned: both },
  Mul: { since: 7, float: (a, b) => a.mul(b), whole: (a, b) => a * b, learned: both },
  Div: { since: 7, float: (a, b) => a.div(b), whole: quotient, learned: both },
};

const variadic: Readonly<Record<string, Arithmetic>> = {
  Min: { since: 8, float: (a, b) => a.minimum(b), whole: Math.min },
  Max: { since: 8, float: (a, b) => a.maximum(b), whole: Math.max },
  Sum: { since: 8, float: (a, b) => a.add(b), whole: (a, b) => a + b },
};

const fold = (call: Call, f: Arithmetic): Value => call.values().reduce((a, b) => combine(a, b, f));

function power(call: Call): Value {
  const [base, exponent] = [call.value(0), call.value(1)];
  if (isFloat(base)) {
    if (isFloat(exponent)) return base.pow(exponent);
    const { shape, data } = exponent as Whole;
    if (data.length === 1 && shape.length <= base.rank) {
      return data[0] === 2 ? base.square() : base.pow(data[0]!);
    }
    return base.pow(int32Tensor(exponent as Whole).cast(base.dtype));
  }
  const { shape, left, right } = meeting(base, exponent);
  return computed(base.type, shape, (i) => Math.trunc(left(i) ** right(i)));
}

function modulo(call: Call): Value {
  const [a, b] = [call.value(0), call.value(1)];
  const truncated = call.flag("fmod");
  if (isFloat(a) && isFloat(b)) {
    const shape = broadcastShapes(a.shape, b.shape);
    checkRoom(shape);
    return remainder({ a: a.expand(shape), b: b.expand(shape) }, { floored: !truncated });
  }
  return pairwise(a, b, (x, y) => {
    if (y === 0) throw new DTypeError({ rule: "Mod takes divisors other than 0", got: `${x} mod 0` });
    return truncated ? x % y : x - y * Math.floor(x / y);
  });
}

type Test = (a: number, b: number) => boolean;

const comparisons: Readonly<Record<string, { since: number; test: Test }>> = {
  Equal: { since: 7, test: (a, b) => a === b },
  Less: { since: 7, test: (a, b) => a < b },
  Greater: { since: 7, test: (a, b) => a > b },
  LessOrEqual: { since: 12, test: (a, b) => a <= b },
  GreaterOrEqual: { since: 12, test: (a, b) => a >= b },
};

const logical: Readonly<Record<string, Test>> = {
  And: (a, b) => a !== 0 && b !== 0,
  Or: (a, b) => a !== 0 || b !== 0,
  Xor: (a, b) => (a !== 0) !== (b !== 0),
};

function compared(call: Call, test: Test, bools: boolean): Whole {
  const [a, b] = [call.value(0), call.value(1)];
  checkOneType([a, b]);
  if (bools) checkBool(a);
  const { shape, left, right } = meeting(a, b);
  return truth(shape, (i) => test(left(i), right(i)));
}

function checkBool(value: Value): Whole {
  if (value instanceof Whole && value.type === "bool") return value;
  throw new DTypeError({ rule: "Logic takes truth values", got: typeOf(value) });
}

/** Elementwise functions of one input; `whole` where whole numbers have it too. */
const unaries: Readonly<
  Record<string, { since: number; float: (x: Tensor) => Tensor; whole?: (x: number) => number }>
> = {
  Abs: { since: 6, float: (x) => x.abs(), whole: Math.abs },
  Neg: { since: 6, float: (x) => x.neg(), whole: (x) => -x },
  Sign: { since: 9, float: (x) => x.sign(), whole: Math.sign },
  Sqrt: { since: 6, float: (x) => x.sqrt() },
  Exp: { since: 6, float: (x) => x.exp() },
  Log: { since: 6, float: (x) => x.log() },
  Reciprocal: { since: 6, float: (x) => x.reciprocal() },
  Floor: { since: 6, float: (x) => x.floor() },
  Ceil: { since: 6, float: (x) => x.ceil() },
  Round: { since: 11, float: (x) => x.round() },
  Erf: { since: 9, float: (x) => x.erf() },
  Sin: { since: 7, float: (x) => x.sin() },
  Cos: { since: 7, float: (x) => x.cos() },
};

function onOne(call: Call, { float, whole }: (typeof unaries)[string]): Value {
  const x = call.value(0);
  if (isFloat(x)) return float(x);
  if (whole) return computed(x.type, x.shape, (i) => whole(x.data[i]!));
  return float(call.tensor(0));
}

function chosen(call: Call): Value {
  const condition = checkBool(call.value(0));
  const [a, b] = [call.value(1), call.value(2)];
  const shape = broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape));
  checkRoom(shape);
  if (isFloat(a) && isFloat(b)) return where(int32Tensor(condition), a, b);
  checkOneType([a, b]);
  const [c, left, right] = [condition, a, b].map((v) => numbersIn(expanded(v, shape)));
  const data = wholeArray((a as Whole).type, shape);
  for (let i = 0; i < data.length; i++) data[i] = c![i] !== 0 ? left![i]! : right![i]!;
  return new Whole((a as Whole).type, shape, data);
}

function clipped(call: Call): Value {
  const x = call.value(0);
  const [least, most] = [1, 2].map((i) => (call.has(i) ? call.number(i) : null));
  if (isFloat(x)) {
    const above = least === null ? x : x.maximum(least!);
    return most === null ? above : above.minimum(most!);
  }
  const [from, to] = [least ?? Number.NEGATIVE_INFINITY, most ?? Number.POSITIVE_INFINITY];
  return computed(x.type, x.shape, (i) => Math.min(to, Math.max(from, x.data[i]!)));
}

function infinite(call: Call): Whole {
  const x = call.tensor(0);
  const [negative, positive] = [call.flag("detect_negative"), call.flag("detect_positive")];
  const numbers = numbersIn(x);
  const [below, above] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  return truth(x.shape, (i) => (negative && numbers[i] === below) || (positive && numbers[i] === above));
}

const each = <T>(table: Readonly<Record<string, T>>, make: (entry: T) => Operator): OperatorTable =>
  Object.fromEntries(Object.entries(table).map(([name, entry]) => [name, make(entry)]));

export const elementwiseOperators: OperatorTable = {
  ...each(arithmetic, (f) => ({
    since: f.since,
    inputs: [2, 2],
    learned: f.learned!,
    run: (call) => combine(call.value(0), call.value(1), f),
  })),
  ...each(variadic, (f) => ({ since: f.since, inputs: [1, Number.POSITIVE_INFINITY], run: (call) => fold(call, f) })),
  Mean: {
    since: 8,
    inputs: [1, Number.POSITIVE_INFINITY],
    run(call) {
      const sum = fold(call, variadic.Sum!);
      return isFloat(sum) ? sum.div(call.inputs.length) : call.tensor(0);
    },
  },
  Pow: { since: 7, inputs: [2, 2], run: power },
  Mod: { since: 10, inputs: [2, 2], attributes: { fmod: int(0) }, run: modulo },
  ...each(comparisons, ({ since, test }) => ({ since, inputs: [2, 2], run: (call) => compared(call, test, false) })),
  ...each(logical, (test) => ({ since: 7, inputs: [2, 2], run: (call) => compared(call, test, true) })),
  Not: {
    since: 1,
    inputs: [1, 1],
    run(call) {
      const { shape, data } = checkBool(call.value(0));
      return truth(shape, (i) => data[i] === 0);
    },
  },
  ...each(unaries, (f) => ({ since: f.since, inputs: [1, 1], run: (call) => onOne(call, f) })),
  ...each(angles, (f) => ({ since: 9, inputs: [1, 1], run: (call) => f({ x: call.tensor(0) }, {}) })),
  IsNaN: {
    since: 9,
    inputs: [1, 1],
    run(call) {
      const x = call.tensor(0);
      const numbers = numbersIn(unary.isNaN({ x }, {}));
      return truth(x.shape, (i) => numbers[i] !== 0);
    },
  },
  IsInf: {
    since: 10,
    inputs: [1, 1],
    attributes: { detect_negative: int(1), detect_positive: int(1) },
    run: infinite,
  },
  Where: { since: 9, inputs: [3, 3], run: chosen },
  Clip: {
    since: 6,
    inputs: [1, 3],
    moved: { min: { kind: "float", input: 1, at: 11 }, max: { kind: "float", input: 2, at: 11 } },
    run: clipped,
  },
};
