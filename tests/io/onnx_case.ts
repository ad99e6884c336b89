import { Random } from "../../src/index.js";
import type { AttributeInit, Numbers } from "./onnx_model.js";

/** One operator with inputs and attributes, at opsets whose meaning is the same. */
export interface Case {
  readonly op: string;
  readonly opsets: readonly number[];
  readonly inputs: readonly (Numbers | null)[];
  readonly attributes?: Readonly<Record<string, AttributeInit>>;
  readonly outputs?: number;
  readonly domain?: string;
  /** How far from the other runtime it may be where float32 leaves room: 1e-5 of the largest number unless given. */
  readonly within?: number;
}

const random = new Random(11);
const size = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);
const numbers = (type: Numbers["type"], shape: readonly number[], draw: () => number): Numbers => ({
  ...{ type, shape },
  data: Array.from({ length: size(shape) }, draw),
});

/** Normal numbers, as float32 holds them. */
export const f = (...shape: number[]): Numbers => numbers("float32", shape, () => Math.fround(random.normal()));
/** Numbers between 0.2 and 2. */
export const positive = (...shape: number[]): Numbers =>
  numbers("float32", shape, () => Math.fround(0.2 + 1.8 * random.uniform()));
export const unit = (...shape: number[]): Numbers =>
  numbers("float32", shape, () => Math.fround(1.8 * random.uniform() - 0.9));
export const given = (data: number[], shape = [data.length], type: Numbers["type"] = "float32"): Numbers => ({
  type,
  shape,
  data,
});
export const i64 = (data: number[], shape = [data.length]): Numbers => given(data, shape, "int64");
export const ints = (shape: number[], from: number, to: number, type: Numbers["type"] = "int64"): Numbers =>
  numbers(type, shape, () => from + random.below(to - from));
export const bools = (...shape: number[]): Numbers => numbers("bool", shape, () => random.below(2));
export const scalar = (v: number, type: Numbers["type"] = "float32"): Numbers => given([v], [], type);
export const fl = (float: number | number[]) => ({ float });
export const odd = (): Numbers =>
  given([Number.NaN, 0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1.5, -2.5, 0.5]);

export type Rest = Omit<Case, "op" | "opsets" | "inputs">;
export const at = (op: string, opsets: number[], inputs: (Numbers | null)[], rest: Rest = {}): Case => ({
  op,
  opsets,
  inputs,
  ...rest,
});

export const unary = (names: string[], x: () => Numbers, opsets = [13]): Case[] =>
  names.map((op) => at(op, opsets, [x()]));
