import type { DType } from "../../base/dtype.js";
import type { Subgroups } from "./subgroups.js";
import { withJoins } from "./wgsl_reduce.js";

/**
 * How a shader uses an operand. `absent` is what reads of it give where the call has none; writes are then left out. One that
 * is `narrow` is taken number by number in a wide shader too, as its weights for rows are.
 */
export interface Operand {
  readonly access: "read" | "write";
  readonly absent?: string;
  readonly narrow?: boolean;
}

export type ParameterType = "u32" | "i32" | "f32";

/**
 * A shader. Its text defines `fn run(group: u32, lane: u32)`, which a workgroup of `lanes` lanes executes for each group. For an
 * operand x it may call `x_at(i)`, and `x_set(i, v)` where it writes; i counts in elements. `HAS_x` tells whether the call has
 * one. Parameters are `P.name`, constants of the call are names. The element of a float64 operand is vec2f, the number being the
 * sum of both. float16 is how numbers are stored alone: they are read as float32, and what is set is rounded.
 *
 * With `wide`, an element is a vec4f where all operands allow it, and else an f32: `E` names the type (I, U, B those of whole
 * numbers, bits and comparisons), the text must be true for both, and `x_first()` is the first number everywhere. STEP is how
 * many numbers an element has, RAMP counts them: 0, or 0 to 3.
 */
export interface Program {
  readonly name: string;
  readonly operands: Readonly<Record<string, Operand>>;
  readonly parameters: Readonly<Record<string, ParameterType>>;
  readonly lanes: number;
  readonly wide?: boolean;
  readonly code: string;
}

/** A binding of one call: which operands share a buffer, and what its elements are. */
export interface Binding {
  readonly names: readonly string[];
  readonly element: string;
  readonly write: boolean;
}

/** Numbers and truths become constants of the shader by their names; a text goes where `$NAME` stands. */
export type Constants = Readonly<Record<string, number | boolean | string>>;

const single: Readonly<Record<DType, string>> = { float32: "f32", float64: "vec2f", int32: "i32", float16: "f16" };
export const elementOf = (dtype: DType, wide: boolean): string =>
  wide && dtype !== "float64" ? `vec4<${single[dtype]}>` : single[dtype];
const isHalf = (element: string): boolean => element.includes("f16");

/** The whole text of a shader for a call with these bindings. Binding 0 are the parameters. */
export function shaderText(
  program: Program,
  bindings: readonly Binding[],
  constants: Constants,
  wide: boolean,
  subgroups: Subgroups | null,
): string {
  const starts = Object.keys(program.operands).map((name) => `${name}_start: u32`);
  const parameters = Object.entries(program.parameters).map(([name, type]) => `${name}: ${type}`);
  const lines = [
    ...(bindings.some(({ element }) => isHalf(element)) ? ["enable f16;"] : []),
    ...(subgroups ? ["enable subgroups;", "var<private> subgroup_lanes: u32;"] : []),
    `struct Parameters { groups: u32, ${[...starts, ...parameters].join(", ")} }`,
    "@group(0) @binding(0) var<uniform> P: Parameters;",
    ...aliases(wide),
    `const LANES = ${program.lanes}u;`,
    `const STEP = ${wide ? 4 : 1}u;`,
    ...Object.entries(constants)
      .filter(([, value]) => typeof value !== "string")
      .map(([name, value]) => `const ${name} = ${typeof value === "number" ? `${value}u` : value};`),
    ...bindings.map(
      ({ element, write }, i) =>
        `@group(0) @binding(${i + 1}) var<storage, ${write ? "read_write" : "read"}> b${i}: array<${element}>;`,
    ),
    ...Object.entries(program.operands).map(([name, operand]) => accessors(name, operand, bindings, wide)),
    withJoins(filled(program.code, constants), subgroups),
    `@compute @workgroup_size(${program.lanes})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) extent: vec3u, @builtin(local_invocation_index) lane: u32${subgroups ? ", @builtin(subgroup_size) size: u32" : ""}) {
  ${subgroups ? "subgroup_lanes = size;" : ""}
  let group = id.y * extent.x + id.x;
  if (group < P.groups) { run(group, lane); }
}`,
  ];
  return lines.join("\n");
}

function filled(code: string, constants: Constants): string {
  return code.replace(/\$([A-Z_]+)/g, (_, name: string) => String(constants[name]));
}

const RAMP = "const RAMP = U";
/** One element or four: floats, integers, bits, and comparisons. */
const aliases = (wide: boolean): string[] =>
  wide
    ? ["alias E = vec4f;", "alias I = vec4i;", "alias U = vec4u;", "alias B = vec4<bool>;", `${RAMP}(0u, 1u, 2u, 3u);`]
    : ["alias E = f32;", "alias I = i32;", "alias U = u32;", "alias B = bool;", `${RAMP}(0u);`];

function accessors(
  name: string,
  { access, absent = "0.0", narrow = false }: Operand,
  bindings: readonly Binding[],
  allWide: boolean,
): string {
  const wide = allWide && !narrow;
  const at = bindings.findIndex((binding) => binding.names.includes(name));
  const has = `const HAS_${name} = ${at >= 0};`;
  if (at < 0) {
    const type = narrow ? "f32" : "E";
    const read = (called: string) => `fn ${name}_${called} -> ${type} { return ${type}(${absent}); }`;
    const none = `${read("at(i: u32)")}\n${read("first()")}`;
    return access === "read" ? `${has}\n${none}` : `${has}\n${none}\nfn ${name}_set(i: u32, v: ${type}) {}`;
  }
  const { element } = bindings[at]!;
  const value = element.replace("f16", "f32");
  const place = `b${at}[P.${name}_start${wide ? " / 4u" : ""} + i]`;
  const start = place.replace(" + i]", wide ? "].x" : "]");
  const read = `fn ${name}_at(i: u32) -> ${value} { return ${value}(${place}); }`;
  const first = `fn ${name}_first() -> ${value} { return ${value}(${isHalf(element) ? `f32(${start})` : start}); }`;
  const write = `fn ${name}_set(i: u32, v: ${value}) { ${place} = ${element}(v); }`;
  return [has, read, first, ...(access === "write" ? [write] : [])].join("\n");
}
