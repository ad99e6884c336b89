import type { Subgroups } from "./subgroups.js";

/** Values that one lane joins at a time: with two barriers 16 lanes x 16 values make 256, where a binary tree takes eight. */
const RADIX = 16;
/** Results of subgroups that a lane joins at most; where there would be more, workgroup memory alone takes fewer steps. */
const MOST_SUBGROUPS = 32;

interface Join {
  readonly name: string;
  readonly type: string;
  readonly lanes: number;
  readonly width: number;
  readonly join: string;
}

/**
 * Text of `fn NAME(v: TYPE, lane: u32) -> TYPE`, which joins the v of each run of `width` neighbouring lanes (a power of two
 * up to 256) and gives the result to all of them: the sum, or what `join` makes of a and b. The order is a fixed tree of pairs,
 * so that a call gives the same bits each time. To be called by all lanes, where control flow is uniform; any number of times.
 * How that is done depends on the device: `withJoins` writes it out.
 */
export function joinText(name: string, type: string, lanes: number, width = lanes, join = "a + b"): string {
  if (width > lanes || width > RADIX * RADIX || !Number.isInteger(Math.log2(width))) {
    throw new Error(`${name}: ${width} of ${lanes} lanes cannot be joined`);
  }
  return `\n@join ${JSON.stringify({ name, type, lanes, width, join } satisfies Join)}\n`;
}

/** The same for sums: `sumText("sum2", "vec2f", 256)`. */
export const sumText = (name: string, type: "f32" | "vec2f" | "vec4f", lanes: number, width = lanes): string =>
  joinText(name, type, lanes, width);

export const withJoins = (code: string, subgroups: Subgroups | null): string =>
  code.replace(/^@join (.*)$/gm, (_, given: string) => {
    const join = JSON.parse(given) as Join;
    const { name, type, width } = join;
    if (width === 1) return `fn ${name}(v: ${type}, lane: u32) -> ${type} { return v; }`;
    const shuffles = subgroups !== null && width / subgroups.least <= MOST_SUBGROUPS;
    return `fn ${name}_pair(a: ${type}, b: ${type}) -> ${type} { return ${join.join}; }
${shuffles ? inSubgroups(join, subgroups) : inMemory(join)}`;
  });

/** A tree of pairs over values `stride` apart. */
function tree({ name }: Join, of: string, count: number, stride: number): string {
  const join = (leaves: readonly string[]): string => {
    if (leaves.length === 1) return leaves[0]!;
    const half = leaves.length / 2;
    return `${name}_pair(${join(leaves.slice(0, half))}, ${join(leaves.slice(half))})`;
  };
  return join(Array.from({ length: count }, (_, k) => `${name}_${of}[at + ${k * stride}u]`));
}

function inMemory(join: Join): string {
  const { name, type, lanes, width } = join;
  const parts = width / RADIX;
  if (parts <= 1) {
    return `var<workgroup> ${name}_all: array<${type}, ${lanes}>;
fn ${name}(v: ${type}, lane: u32) -> ${type} {
  workgroupBarrier();
  ${name}_all[lane] = v;
  workgroupBarrier();
  let at = lane & ~${width - 1}u;
  return ${tree(join, "all", width, 1)};
}`;
  }
  // What a lane reads of one array it has read before the barrier that a later write of it follows.
  return `var<workgroup> ${name}_all: array<${type}, ${lanes}>;
var<workgroup> ${name}_parts: array<${type}, ${(lanes / width) * parts}>;
fn ${name}(v: ${type}, lane: u32) -> ${type} {
  ${name}_all[lane] = v;
  workgroupBarrier();
  if ((lane & ${width - 1}u) < ${parts}u) {
    let at = lane;
    ${name}_parts[lane / ${width}u * ${parts}u + (lane & ${width - 1}u)] = ${tree(join, "all", RADIX, parts)};
  }
  workgroupBarrier();
  let at = lane / ${width}u * ${parts}u;
  return ${tree(join, "parts", parts, 1)};
}`;
}

/**
 * Lanes of a subgroup hand each other their values, with no barrier; where a run is longer than a subgroup, workgroup memory takes
 * one value of each.
 */
function inSubgroups(join: Join, { least, most }: Subgroups): string {
  const { name, type, lanes, width } = join;
  const fixed = least === most;
  const steps = Array.from({ length: Math.log2(Math.min(width, most)) }, (_, i) => {
    const k = 2 ** i;
    // Both lanes join in the same order, since the rounding of a join may depend on it; a sum's does not.
    const swaps = `(lane & ${k}u) != 0u`;
    const pair =
      join.join === "a + b" ? `${name}_pair(r, o)` : `${name}_pair(select(r, o, ${swaps}), select(o, r, ${swaps}))`;
    const joined = k < least ? pair : `select(r, ${pair}, subgroup_lanes > ${k}u)`;
    return `{ let o = subgroupShuffleXor(r, ${k}u); r = ${joined}; }`;
  }).join("\n  ");
  const within = `fn ${name}(v: ${type}, lane: u32) -> ${type} {
  var r = v;
  ${steps}`;
  if (width <= least) return `${within}\n  return r;\n}`;
  const size = fixed ? `${least}u` : "subgroup_lanes";
  const all = fixed
    ? `let all = ${tree(join, "parts", width / least, 1)};`
    : `var all = ${name}_parts[at];
  for (var p = 1u; p < ${width}u / ${size}; p++) { all = ${name}_pair(all, ${name}_parts[at + p]); }`;
  return `var<workgroup> ${name}_parts: array<${type}, ${lanes / least}>;
${within}
  workgroupBarrier();
  if (lane % ${size} == 0u) { ${name}_parts[lane / ${size}] = r; }
  workgroupBarrier();
  let at = lane / ${width}u * (${width}u / ${size});
  ${all}
  return select(all, r, ${size} >= ${width}u);
}`;
}
