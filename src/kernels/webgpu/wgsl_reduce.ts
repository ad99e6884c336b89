/** Values that one lane joins at a time: with two barriers 16 lanes x 16 values make 256, where a binary tree takes eight. */
const RADIX = 16;

/**
 * Text of `fn NAME(v: TYPE, lane: u32) -> TYPE`, which joins the v of each run of `width` neighbouring lanes (a power of two
 * up to 256) and gives the result to all of them: the sum, or what `join` makes of a and b. The order is a fixed tree of pairs,
 * so that a call gives the same bits each time. To be called by all lanes, where control flow is uniform; any number of times.
 */
export function joinText(name: string, type: string, lanes: number, width = lanes, join = "a + b"): string {
  if (width > lanes || width > RADIX * RADIX || !Number.isInteger(Math.log2(width))) {
    throw new Error(`${name}: ${width} of ${lanes} lanes cannot be joined`);
  }
  const both = `fn ${name}_pair(a: ${type}, b: ${type}) -> ${type} { return ${join}; }`;
  if (width === 1) return `fn ${name}(v: ${type}, lane: u32) -> ${type} { return v; }`;
  const parts = Math.max(1, width / RADIX);
  const tree = (leaves: readonly string[]): string => {
    if (leaves.length === 1) return leaves[0]!;
    const half = leaves.length / 2;
    return `${name}_pair(${tree(leaves.slice(0, half))}, ${tree(leaves.slice(half))})`;
  };
  const leaves = (of: string, count: number, stride: number): string =>
    tree(Array.from({ length: count }, (_, k) => `${name}_${of}[at + ${k * stride}u]`));
  if (parts === 1) {
    return `${both}
var<workgroup> ${name}_all: array<${type}, ${lanes}>;
fn ${name}(v: ${type}, lane: u32) -> ${type} {
  workgroupBarrier();
  ${name}_all[lane] = v;
  workgroupBarrier();
  let at = lane & ~${width - 1}u;
  return ${leaves("all", width, 1)};
}`;
  }
  // What a lane reads of one array it has read before the barrier that a later write of it follows.
  return `${both}
var<workgroup> ${name}_all: array<${type}, ${lanes}>;
var<workgroup> ${name}_parts: array<${type}, ${(lanes / width) * parts}>;
fn ${name}(v: ${type}, lane: u32) -> ${type} {
  ${name}_all[lane] = v;
  workgroupBarrier();
  if ((lane & ${width - 1}u) < ${parts}u) {
    let at = lane;
    ${name}_parts[lane / ${width}u * ${parts}u + (lane & ${width - 1}u)] = ${leaves("all", RADIX, parts)};
  }
  workgroupBarrier();
  let at = lane / ${width}u * ${parts}u;
  return ${leaves("parts", parts, 1)};
}`;
}

/** The same for sums: `sumText("sum2", "vec2f", 256)`. */
export const sumText = (name: string, type: "f32" | "vec2f" | "vec4f", lanes: number, width = lanes): string =>
  joinText(name, type, lanes, width);
