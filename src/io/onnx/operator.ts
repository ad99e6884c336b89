import type { AttributeSpec, Attributes } from "./attributes.js";
import type { Call } from "./call.js";
import type { Value } from "./value.js";

/** An attribute of older versions that became an input. */
export interface Moved {
  readonly kind: "int" | "float" | "ints" | "floats";
  readonly input: number;
  /** The first opset in which it is an input. */
  readonly at: number;
  /** What it is in older versions where a node does not say. */
  readonly fallback?: number;
}

/** What a node of one type means, from an opset on. */
export interface Operator {
  /** The first opset that has this meaning. */
  readonly since: number;
  /** The opset that took it away. */
  readonly until?: number;
  /** How many inputs it has, at least and at most. */
  readonly inputs: readonly [number, number];
  /** How many outputs at most; 1 unless given. */
  readonly outputs?: number;
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
  readonly moved?: Readonly<Record<string, Moved>>;
  /** Inputs that are learned: an initializer there becomes a parameter. */
  readonly learned?: readonly number[];
  /** Learned inputs scale and shift what was normalized: weight decay leaves them alone. */
  readonly affine?: true;
  /** Inputs that are running statistics: an initializer there becomes a buffer. */
  readonly statistics?: readonly number[];
  /** The result is input 0 in another form, so that what is learned of the one is learned of the other. */
  readonly passes?: true;
  /** The result is not the same each time, or not in training. */
  readonly varies?: true;
  /** What a node's attributes ask for that is not computed, in words; found before anything runs. */
  readonly lacks?: (attributes: Attributes) => string | null;
  /** One result, or several; null for one that is not computed. */
  readonly run: (call: Call) => Value | readonly (Value | null)[];
}

/** Operators by name; several meanings of one name in the order of their opsets. */
export type OperatorTable = Readonly<Record<string, Operator | readonly Operator[]>>;
