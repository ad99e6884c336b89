import type { RowView } from "../../norm/views.js";
import type { Dispatch } from "./device.js";
import { fitsFour } from "./pipelines.js";
import type { Operand, Program } from "./program.js";

export const LANES = 256;

/**
 * How weights belong to the elements of a row: one for each, or one for a run of `inner`. A run of a multiple of four is
 * never left within a vec4f.
 */
export type Runs = "none" | "fours" | "any";

export const runsOf = ({ inner }: RowView): Runs => (inner === 1 ? "none" : inner % 4 === 0 ? "fours" : "any");

const READ: Operand = { access: "read" };
export const WRITE: Operand = { access: "write" };
const NARROW: Operand = { access: "read", narrow: true };
/** vec2f, sums and statistics. */
export const PAIRS_IN = NARROW;
export const PAIRS_OUT: Operand = { access: "write", narrow: true };

export const inputs = (...names: string[]): Program["operands"] => Object.fromEntries(names.map((n) => [n, READ]));

/** Weight and bias; runs take them number by number. */
export const affineOperands = (runs: Runs): Program["operands"] => ({
  weight: { access: "read", absent: "1.0", narrow: runs !== "none" },
  bias: { access: "read", absent: "0.0", narrow: runs !== "none" },
});

/** Of a row: its elements, counted as E, the sets of weights that rows take in turn, the weights of a set, and elements of each. */
export const rowParameters: Program["parameters"] = {
  ...{ steps: "u32", sets: "u32", channels: "u32", inner: "u32" },
  ...{ eps: "f32", inverse: "f32", alpha: "f32" },
};

/** `weight_of(r, i)` and `bias_of(r, i)`: what belongs to element i of row r. */
export function affineText(wide: boolean, runs: Runs): string {
  return ["weight", "bias"]
    .map((name) => `fn ${name}_of(r: u32, i: u32) -> E { ${place(name, wide, runs)} }`)
    .join("\n");
}

function place(name: string, wide: boolean, runs: Runs): string {
  if (runs === "none") return `return ${name}_at(r % P.sets * P.steps + i);`;
  const set = "r % P.sets * P.channels";
  if (!wide) return `return ${name}_at(${set} + i / P.inner);`;
  if (runs === "fours") return `return E(${name}_at(${set} + i * 4u / P.inner));`;
  const four = ["x", "y", "z", "w"].map((k) => `${name}_at(c.${k})`).join(", ");
  return `let c = ${set} + (i * 4u + RAMP) / P.inner; return E(${four});`;
}

/** The sum of an E, and 1 / sqrt(variance + eps), which WGSL's own inverseSqrt leaves two units off. */
export const rowText = (wide: boolean): string => `
fn total(v: E) -> f32 { return ${wide ? "(v.x + v.y) + (v.z + v.w)" : "v"}; }
fn rho_of(variance: vec2f) -> f32 {
  let v = (variance.x + P.eps) + variance.y;
  let r = inverseSqrt(v);
  return select(r, r + 0.5 * r * (1.0 - (v * r) * r), v > 0.0 && v < 3.0e38);
}`;

/** Workgroups that keep a large device busy. */
export const BUSY = 512;

/** How many elements a lane can keep: shaders are made for these alone, so that rows of many sizes share few. */
const KEPT = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/**
 * Lanes that share a row of `steps` elements, and how many each keeps in registers: up to four where there is work for the
 * whole device, since a lane with more loads under way hides their latency, and more only where the lanes run out.
 */
export function spread(steps: number, rows: number): { readonly width: number; readonly kept: number } {
  const each = Math.min(4, Math.max(1, Math.floor((rows * steps) / (LANES * BUSY))));
  const width = Math.min(LANES, 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(steps / each)))));
  const kept = Math.max(1, Math.ceil(steps / width));
  return { width, kept: KEPT.find((size) => size >= kept) ?? kept };
}

export const groupsOf = (rows: number, width: number): number => Math.ceil(rows / (LANES / width));

/** Text for each element that a lane keeps; those beyond `count` are left out. */
export const each = (kept: number, width: number, body: (k: number, i: string) => string): string =>
  Array.from({ length: kept }, (_, k) => {
    const i = `(l + ${k * width}u)`;
    return `if (${i} < count) { ${body(k, i)} }`;
  }).join("\n");

/**
 * Text that loads them all, with no branch in between. Lanes without an element load the last one, which they do not use.
 */
export const load = (kept: number, width: number, what: (k: number, at: string) => string): string =>
  Array.from({ length: kept }, (_, k) => what(k, `first + min(l + ${k * width}u, last)`)).join("\n");

/** Programs by the text of what makes them different. */
export class Programs<Key> {
  private readonly made = new Map<string, Program>();

  constructor(private readonly make: (key: Key) => Program) {}

  get(key: Key): Program {
    const text = JSON.stringify(key);
    let program = this.made.get(text);
    if (!program) {
      program = this.make(key);
      this.made.set(text, program);
    }
    return program;
  }
}

/** Whether rows of `length` elements can be taken by fours. */
export const byFours = (operands: Program["operands"], given: Dispatch["operands"], length: number): boolean =>
  length % 4 === 0 && fitsFour({ operands }, given);
