import type { Tensor } from "../../../autograd/index.js";
import type { DType } from "../../../base/dtype.js";
import { broadcastShapes, numberOfElements, type Shape, sameShape } from "../../../base/shape.js";

/** Element types of what is written. */
export type ElementType = "float32" | "float64" | "int32" | "int64" | "bool";

/** Numbers known when the graph is made: those of a tensor, read when the file is written, or a list. */
export interface Constant {
  /** Under this name the tensor stands in stateDict; null for others. */
  readonly stateName: string | null;
  readonly numbers: () => ArrayLike<number>;
  /** What says that two constants are the same one: the tensor's memory, or the list. */
  readonly identity: unknown;
  /** Lengths, places in shapes or positions along axes, which may depend on the batch. */
  readonly isShape: boolean;
}

/** An edge of the graph. */
export interface Value {
  readonly shape: Shape;
  readonly type: ElementType;
  readonly constant: Constant | null;
  /** The node that makes it; null for inputs and constants. */
  node: Node | null;
  /** Given when the graph is written; before, a wish. */
  name: string;
  /** The same as truth values, where it was cast from those. */
  readonly truth: Value | null;
}

/** Whole numbers and lists become INT and INTS, words STRING; names in `floatAttributes` FLOAT. */
export type Attributes = Readonly<Record<string, number | string | readonly number[]>>;

export interface Node {
  readonly op: string;
  readonly inputs: (Value | null)[];
  readonly output: Value;
  attributes: Attributes;
  /** Path of the module whose forward it comes from. */
  readonly path: string;
}

/** Collects nodes; its methods are ONNX operators, with their forms for the opset that was asked for. */
export class Graph {
  readonly nodes: Node[] = [];
  /** Of the module at work. */
  path = "";
  readonly #scalars = new Map<string, Value>();
  readonly #reshaped = new Map<Value, Value[]>();

  constructor(
    readonly opset: number,
    /** What floating-point numbers are written as. */
    readonly real: "float32" | "float64",
    /** Normalizations are written out, so that a mean far from 0 costs no digits. */
    readonly accurate = false,
  ) {}

  typeOf(dtype: DType): ElementType {
    return dtype === "int32" ? "int32" : this.real;
  }

  input(name: string, shape: Shape, type: ElementType): Value {
    return { shape, type, constant: null, node: null, name, truth: null };
  }

  /** A tensor's numbers; the caller keeps it alive until the graph is written. */
  tensor(t: Tensor, stateName: string | null): Value {
    const constant: Constant = { stateName, numbers: () => t.storage.view, identity: t.storage, isShape: false };
    return { shape: t.shape, type: this.typeOf(t.dtype), constant, node: null, name: stateName ?? "", truth: null };
  }

  list(numbers: ArrayLike<number>, shape: Shape, type: ElementType = this.real, isShape = false): Value {
    const constant: Constant = { stateName: null, numbers: () => numbers, identity: numbers, isShape };
    return { shape, type, constant, node: null, name: "", truth: null };
  }

  fill(value: number, shape: Shape): Value {
    return this.list(new Float64Array(numberOfElements(shape)).fill(value), shape);
  }

  /** A number without axes, one for each value. */
  scalar(value: number, type: ElementType = this.real): Value {
    const key = `${type} ${Object.is(value, -0) ? "-0" : value}`;
    const known = this.#scalars.get(key) ?? this.list([value], [], type);
    this.#scalars.set(key, known);
    return known;
  }

  /** Lengths or positions for operators that take them as an input. */
  lengths(values: readonly number[]): Value {
    return this.list(values, [values.length], "int64", true);
  }

  node(
    op: string,
    inputs: (Value | null)[],
    shape: Shape,
    { type = inputs[0]!.type, ...attributes }: { type?: ElementType } & Record<string, unknown> = {},
    truth: Value | null = null,
  ): Value {
    const output: Value = { shape, type, constant: null, node: null, name: "", truth };
    const node: Node = { op, inputs, output, attributes: attributes as Attributes, path: this.path };
    output.node = node;
    this.nodes.push(node);
    return output;
  }

  unary(op: string, x: Value, attributes: Record<string, unknown> = {}): Value {
    return this.node(op, [x], x.shape, attributes);
  }

  binary(op: string, a: Value, b: Value, type?: ElementType): Value {
    return this.node(op, [a, b], broadcastShapes(a.shape, b.shape), type ? { type } : {});
  }

  add = (a: Value, b: Value): Value => this.binary("Add", a, b);
  sub = (a: Value, b: Value): Value => this.binary("Sub", a, b);
  mul = (a: Value, b: Value): Value => this.binary("Mul", a, b);
  div = (a: Value, b: Value): Value => this.binary("Div", a, b);
  plus = (a: Value, b: number): Value => (b === 0 ? a : this.add(a, this.scalar(b, a.type)));
  times = (a: Value, b: number): Value => (b === 1 ? a : this.mul(a, this.scalar(b, a.type)));
  sqrt = (a: Value): Value => this.unary("Sqrt", a);
  square = (a: Value): Value => this.mul(a, a);

  cast(x: Value, type: ElementType): Value {
    if (x.type === type) return x;
    if (type === "bool" && x.truth) return x.truth;
    const to = { float32: 1, float64: 11, int32: 6, int64: 7, bool: 9 }[type];
    return this.node("Cast", [x], x.shape, { type, to }, x.type === "bool" ? x : null);
  }

  /** A constant takes the shape on; of anything else each shape is made once. */
  reshape(x: Value, shape: Shape): Value {
    if (sameShape(x.shape, shape)) return x;
    const made = this.#reshaped.get(x) ?? [];
    this.#reshaped.set(x, made);
    let found = made.find((v) => sameShape(v.shape, shape));
    if (found) return found;
    if (x.constant) found = { ...x, shape };
    else if (x.node?.op === "Reshape") found = this.reshape(x.node.inputs[0]!, shape);
    else found = this.node("Reshape", [x, this.lengths(shape)], shape, this.#zeros(shape));
    made.push(found);
    return found;
  }

  /** A length of 0 means that of the input before opset 14, where there was no other way. */
  #zeros(shape: Shape): Record<string, number> {
    return shape.includes(0) && this.opset >= 14 ? { allowzero: 1 } : {};
  }

  transpose(x: Value, perm: readonly number[]): Value {
    if (perm.every((a, i) => a === i)) return x;
    const shape = perm.map((a) => x.shape[a]!);
    return this.node("Transpose", [x], shape, { perm });
  }

  /** `starts` to `ends` (exclusive) along each of `axes`; `shape` is the result's. */
  slice(
    x: Value,
    axes: readonly number[],
    starts: readonly number[],
    ends: readonly number[],
    shape: Shape,
    steps?: readonly number[],
  ): Value {
    if (axes.length === 0) return x;
    const places = [starts, ends, axes, ...(steps ? [steps] : [])].map((list) => this.lengths(list));
    return this.node("Slice", [x, ...places], shape);
  }

  concat(parts: readonly Value[], axis: number): Value {
    if (parts.length === 1) return parts[0]!;
    const length = parts.reduce((sum, part) => sum + part.shape[axis]!, 0);
    return this.node(
      "Concat",
      [...parts],
      parts[0]!.shape.map((d, i) => (i === axis ? length : d)),
      { axis },
    );
  }

  expand(x: Value, shape: Shape): Value {
    return sameShape(x.shape, shape) ? x : this.node("Expand", [x, this.lengths(shape)], shape);
  }

  /** Over `axes`, which stay with length 1. The axes became an input of ReduceSum in opset 13, of the others in 18. */
  reduce(op: string, x: Value, axes: readonly number[]): Value {
    if (axes.length === 0) return op === "ReduceL2" ? this.unary("Abs", x) : x;
    const shape = x.shape.map((d, i) => (axes.includes(i) ? 1 : d));
    if (op !== "ReduceSum" && this.opset < 18) return this.node(op, [x], shape, { axes, keepdims: 1 });
    return this.node(op, [x, this.list(axes, [axes.length], "int64")], shape, { keepdims: 1 });
  }

  mean = (x: Value, axes: readonly number[]): Value => this.reduce("ReduceMean", x, axes);

  /** y = condition ? a : b, the condition of any type. */
  where(condition: Value, a: Value, b: Value): Value {
    const shape = broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape));
    return this.node("Where", [this.cast(condition, "bool"), a, b], shape, { type: a.type });
  }

  /** Numbers 1 and 0 for true and false. */
  compare(op: string, a: Value, b: Value, type: ElementType): Value {
    return this.cast(this.binary(op, a, b, "bool"), type);
  }

  /** Rows by number. */
  gather(x: Value, index: Value, axis = 0): Value {
    const shape = [...x.shape.slice(0, axis), ...index.shape, ...x.shape.slice(axis + 1)];
    return this.node("Gather", [x, index], shape, { axis });
  }
}
