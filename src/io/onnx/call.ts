import { Tensor } from "../../autograd/index.js";
import { DTypeError, ShapeError, UnsupportedKernel } from "../../base/errors.js";
import { formatShape } from "../../base/shape.js";
import type { Attributes } from "./attributes.js";
import { numbersIn, typeOf, type Value, Whole } from "./value.js";

/** One execution of a node: its inputs and attributes, read as what the operator says they are. */
export class Call {
  constructor(
    readonly inputs: readonly (Value | null)[],
    readonly attributes: Attributes,
    /** How many results are named by the node, up to the last one. */
    readonly outputs: number,
    /** Whether the model is in training mode. */
    readonly training: boolean,
    /** Whether its running statistics belong to the model, which training changes. */
    readonly ownsStatistics = false,
  ) {}

  has(i: number): boolean {
    return (this.inputs[i] ?? null) !== null;
  }

  value(i: number): Value {
    const value = this.inputs[i];
    if (value) return value;
    throw new ShapeError({ rule: `Input ${i} is needed`, got: "none" });
  }

  /** All inputs of an operator that takes any number of them. */
  values(): Value[] {
    return this.inputs.map((_, i) => this.value(i));
  }

  /** Floats. */
  tensor(i: number): Tensor {
    const value = this.value(i);
    if (value instanceof Tensor) return value;
    throw new DTypeError({ rule: `Input ${i} holds floats`, got: value.type });
  }

  optionalTensor(i: number): Tensor | null {
    return this.has(i) ? this.tensor(i) : null;
  }

  /** Whole numbers or truth values. */
  whole(i: number): Whole {
    const value = this.value(i);
    if (value instanceof Whole) return value;
    throw new DTypeError({ rule: `Input ${i} holds whole numbers`, got: typeOf(value) });
  }

  /** Whole numbers of a list: axes, a shape, sizes. One number without axes counts as a list. */
  list(i: number): number[] {
    const { shape, data } = this.whole(i);
    if (shape.length <= 1) return Array.from(data);
    throw new ShapeError({ rule: `Input ${i} is a list of numbers`, got: `shape ${formatShape(shape)}` });
  }

  optionalList(i: number): number[] | null {
    return this.has(i) ? this.list(i) : null;
  }

  /** The one number of an input, float or not. */
  number(i: number): number {
    const value = this.value(i);
    if (value.size === 1) return numbersIn(value)[0]!;
    throw new ShapeError({ rule: `Input ${i} is one number`, got: `shape ${formatShape(value.shape)}` });
  }

  int(name: string): number {
    return this.attributes.get(name) as number;
  }

  flag(name: string): boolean {
    return this.attributes.get(name) !== 0;
  }

  float(name: string): number {
    return this.attributes.get(name) as number;
  }

  text(name: string): string {
    return this.attributes.get(name) as string;
  }

  ints(name: string): number[] | null {
    return (this.attributes.get(name) ?? null) as number[] | null;
  }

  attribute<T>(name: string): T | null {
    return (this.attributes.get(name) ?? null) as T | null;
  }
}

/** One of the words that an attribute may be. Throws UnsupportedKernel for another. */
export function oneOf<T extends string>(what: string, word: string, known: readonly T[]): T {
  if (known.includes(word as T)) return word as T;
  throw new UnsupportedKernel({ rule: `${what} is one of ${known.join(", ")}`, got: JSON.stringify(word) });
}
