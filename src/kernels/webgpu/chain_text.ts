import type { Slot } from "../../memory/heap.js";
import type { Operand, ParameterType, Program } from "./program.js";

/** An elementwise kernel's arithmetic: WGSL of type E. */
export interface Expression {
  /** Of its own, above 0. */
  readonly id: number;
  /** Operands of a call, and what the text calls them. */
  readonly inputs: readonly string[];
  readonly names: readonly string[];
  readonly text: string;
  /** The call's parameter that the text calls `k`. */
  readonly parameter: string | null;
  /** WGSL that the text calls. */
  readonly library: readonly string[];
}

/** What one call of a chain computes. */
export interface Link {
  readonly expression: Expression;
  /** For each input the link that gives it, or -1 - i for source i. */
  readonly from: readonly number[];
  /** Its parameter, for all elements. */
  readonly isNumber: boolean;
  readonly number: number;
  /** Whether it is rounded to float16. */
  readonly half: boolean;
}

/**
 * Each value passes through an exclusive or with a 0 that the compiler does not know: else it may join a product and a sum, or
 * cancel terms, over the bounds of calls, and the numbers would depend on whether calls went together. Rounding to float16 is
 * spelled out, to the nearest and of two to the even one, since Mesa takes a conversion there and back for none.
 */
const KEPT = `
fn kept(v: E) -> E { return bitcast<E>(bitcast<U>(v) ^ U(P.zero)); }
fn rounded(v: E) -> E {
  let bits = bitcast<U>(v);
  let size = bits & U(0x7fffffffu);
  let normal = (size + U(0xfffu) + ((size >> U(13u)) & U(1u))) & U(0xffffe000u);
  // The last place of a float32 in [0.5, 1) is that of a subnormal half.
  let subnormal = bitcast<U>(kept(bitcast<E>(size) + 0.5) - 0.5);
  var y = select(normal, subnormal, size < U(0x38800000u));
  y = select(y, U(0x7f800000u), y > U(0x477fe000u));
  y = select(y, size, size > U(0x7f800000u));
  return bitcast<E>(y | (bits & U(0x80000000u)));
}`;

let ids = 1;
/** `names` says what the text calls each operand. */
export const expression = (
  names: Readonly<Record<string, string>>,
  text: string,
  library: readonly string[] = [],
  parameter: string | null = null,
): Expression => ({ id: ids++, inputs: Object.keys(names), names: Object.values(names), text, parameter, library });

/** Expressions of the same form, by the op's name. */
export const expressions = <Op extends string>(
  names: Readonly<Record<string, string>>,
  texts: Readonly<Record<Op, string>>,
  library: readonly string[],
  parameter: string | null = null,
): Readonly<Record<Op, Expression>> =>
  Object.fromEntries(
    Object.entries<string>(texts).map(([op, text]) => [op, expression(names, text, library, parameter)]),
  ) as Record<Op, Expression>;

/** The shader of a chain. `operands` are its sources, x0 and so on, and the results that it stores, y and the number of the link. */
export function linkedProgram(
  links: readonly Link[],
  sources: readonly { readonly slot: Slot; readonly stays: boolean }[],
  operands: readonly string[],
  lanes: number,
): Program {
  const used = [...new Set(links.map((link) => link.expression))];
  const functions = used.map(({ id, names, text, parameter }) => {
    const takes = [...names.map((name) => `${name}: E`), ...(parameter ? ["k: f32"] : [])];
    return `fn link_${id}(${takes.join(", ")}) -> E { return ${text}; }`;
  });
  const reads = sources.map(({ stays }, i) => `let s${i} = ${stays ? `x${i}_first()` : `x${i}_at(i)`};`);
  const steps = links.map(({ expression: { id, parameter }, from, half }, v) => {
    const given = [...from.map((at) => (at < 0 ? `s${-1 - at}` : `v${at}`)), ...(parameter ? [`P.k${v}`] : [])];
    const value = `link_${id}(${given.join(", ")})`;
    return `let v${v} = kept(${half ? `rounded(${value})` : value});`;
  });
  const results = operands.filter((name) => name[0] === "y");
  const stores = results.map((name) => `${name}_set(i, v${name.slice(1)});`);
  const numbers = links.flatMap(({ expression: { parameter } }, v) => (parameter ? [[`k${v}`, "f32" as const]] : []));
  return {
    name: `chain_of_${links.length}`,
    operands: Object.fromEntries(
      operands.map((name): [string, Operand] => [name, { access: name[0] === "y" ? "write" : "read" }]),
    ),
    parameters: { size: "u32", zero: "u32", ...Object.fromEntries(numbers as [string, ParameterType][]) },
    lanes,
    wide: true,
    code: `${KEPT}
${[...new Set(used.flatMap(({ library }) => library))].join("\n")}
${functions.join("\n")}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= (P.size + STEP - 1u) / STEP) { return; }
  ${[...reads, ...steps, ...stores].join("\n  ")}
}`,
  };
}
