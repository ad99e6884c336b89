import { full } from "../../../autograd/index.js";
import { written } from "../../../autograd/written.js";
import { ShapeError } from "../../../base/errors.js";
import { formatShape } from "../../../base/shape.js";
import { type Attributes, int, optional } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import type { SparseTensor, Tensor as TensorProto } from "../proto/onnx_pb.js";
import { readSparse } from "../sparse.js";
import { elementNameOf, readTensor } from "../tensor_proto.js";
import {
  checkOneType,
  checkRoom,
  computed,
  int64,
  isFloat,
  isFloatType,
  numbersIn,
  toValue,
  typeOf,
  type Value,
  Whole,
  wholeArray,
} from "../value.js";

/** What errors call the place of a tensor that is an attribute. */
const FILE = "the model";

/** The forms that a constant comes in, by attribute. */
const forms: Readonly<Record<string, (value: never) => Value>> = {
  value: (t: TensorProto) => toValue(readTensor(t, FILE, "attribute value")),
  sparse_value: (t: SparseTensor) => toValue(readSparse(t, FILE, "attribute sparse_value")),
  value_float: (v: number) => full([], v),
  value_floats: (v: number[]) => toValue({ shape: [v.length], type: "float32", data: Float32Array.from(v) }),
  value_int: (v: number) => int64([v], []),
  value_ints: (v: number[]) => int64(v),
};

function constant(call: Call): Value {
  const given = [...call.attributes].filter(([name]) => name in forms);
  if (given.length === 1) return forms[given[0]![0]]!(given[0]![1] as never);
  throw new ShapeError({ rule: "A constant has one value", got: String(given.length) });
}

const lacksText = (attributes: Attributes): string | null =>
  attributes.has("value_string") || attributes.has("value_strings") ? "text" : null;

/** A tensor of one value in every place: a float or a whole number as `like` is. */
function filled(shape: readonly number[], like: Value): Value {
  const [value] = numbersIn(like) as unknown as [number];
  if (isFloat(like)) {
    checkRoom(shape);
    return full(shape, value, { dtype: like.dtype });
  }
  return new Whole(like.type, shape, wholeArray(like.type, shape).fill(value));
}

function constantOfShape(call: Call): Value {
  const shape = call.list(0);
  const proto = call.attribute<TensorProto>("value");
  const like = proto ? toValue(readTensor(proto, FILE, "attribute value")) : full([1], 0);
  if (like.size !== 1) throw new ShapeError({ rule: "The value is one number", got: formatShape(like.shape) });
  return filled(shape, like);
}

function range(call: Call): Value {
  const inputs = [call.value(0), call.value(1), call.value(2)] as const;
  checkOneType(inputs);
  const [start, limit, step] = [call.number(0), call.number(1), call.number(2)];
  const count = Math.max(0, Math.ceil((limit - start) / step));
  if (step === 0 || !Number.isFinite(count)) {
    throw new ShapeError({ rule: "Range has finite ends and a step other than 0", got: `${start}, ${limit}, ${step}` });
  }
  checkRoom([count], true);
  const first = inputs[0];
  if (!isFloat(first)) return computed(first.type, [count], (i) => start + i * step);
  return written([count], first.dtype, (to) => {
    for (let i = 0; i < count; i++) to[i] = start + i * step;
  });
}

function eyeLike(call: Call): Value {
  const x = call.value(0);
  const number = call.attribute<number>("dtype");
  const type = number === null ? typeOf(x) : elementNameOf(number, FILE, "attribute dtype");
  const [rows, columns] = x.shape as [number, number];
  if (x.rank !== 2) throw new ShapeError({ rule: "EyeLike takes a matrix", got: formatShape(x.shape) });
  const k = call.int("k");
  const eye = computed("int32", x.shape, (i) => (i % columns === Math.floor(i / columns) + k ? 1 : 0));
  if (!isFloatType(type))
    return new Whole(
      type,
      [rows, columns],
      wholeArray(type, x.shape).map((_, i) => eye.data[i]!),
    );
  return toValue({
    shape: x.shape,
    type,
    data: type === "float64" ? Float64Array.from(eye.data) : Float32Array.from(eye.data),
  });
}

function shapeOf(call: Call): Whole {
  const { shape } = call.value(0);
  const end = call.attribute<number>("end");
  return int64(shape.slice(call.attribute<number>("start") ?? 0, end ?? undefined));
}

export const makingOperators: OperatorTable = {
  Shape: {
    since: 1,
    inputs: [1, 1],
    attributes: { start: { ...int(0), since: 15 }, end: optional("int", { since: 15 }) },
    run: shapeOf,
  },
  Size: { since: 1, inputs: [1, 1], run: (call) => int64([call.value(0).size], []) },
  Range: { since: 11, inputs: [3, 3], run: range },
  Constant: {
    since: 1,
    inputs: [0, 0],
    attributes: {
      value: optional("tensor"),
      sparse_value: optional("sparse", { since: 11 }),
      value_float: optional("float", { since: 12 }),
      value_floats: optional("floats", { since: 12 }),
      value_int: optional("int", { since: 12 }),
      value_ints: optional("ints", { since: 12 }),
      value_string: optional("text", { since: 12 }),
      value_strings: optional("texts", { since: 12 }),
    },
    lacks: lacksText,
    run: constant,
  },
  ConstantOfShape: { since: 9, inputs: [1, 1], attributes: { value: optional("tensor") }, run: constantOfShape },
  EyeLike: { since: 9, inputs: [1, 1], attributes: { dtype: optional("int"), k: int(0) }, run: eyeLike },
};
