import { arithmeticType } from "../../base/dtype.js";
import type { Slot } from "../../memory/heap.js";
import { run } from "./device.js";
import type { Program } from "./program.js";

/** An axis of a copy: its length, and its steps in x and in y. */
export interface CopyAxis {
  readonly n: number;
  readonly x: number;
  readonly y: number;
}

const LANES = 256;
const TILE = 32;
/** Below this, most of a tile would be empty. */
const LEAST = 8;
const OUTER = 6;
const outerAxes = Array.from({ length: OUTER }, (_, k) => k);

/**
 * Tiles go through workgroup memory: neighbouring lanes read along the axis `a`, which is contiguous in x, and write along `b`, which is
 * contiguous in y. A row of the tile is one longer than it needs, so that a column lies in as many banks as a row.
 */
const transpose: Program = {
  name: "transpose",
  operands: { x: { access: "read" }, y: { access: "write" } },
  parameters: {
    ...{ a: "u32", b: "u32", tiles_a: "u32", tiles_b: "u32", a_in_y: "i32", b_in_x: "i32", x_offset: "i32" },
    y_offset: "i32",
    ...Object.fromEntries(outerAxes.map((k) => [`n${k}`, "u32" as const])),
    ...Object.fromEntries(outerAxes.flatMap((k) => [`x${k}`, `y${k}`].map((name) => [name, "i32" as const]))),
  },
  lanes: LANES,
  code: `
var<workgroup> tile: array<$T, ${TILE * (TILE + 1)}>;
fn run(group: u32, lane: u32) {
  var left = group / (P.tiles_a * P.tiles_b);
  var from_x = P.x_offset;
  var to_y = P.y_offset;
  ${outerAxes.map((k) => `{ let at = i32(left % P.n${k}); left /= P.n${k}; from_x += at * P.x${k}; to_y += at * P.y${k}; }`).join("\n  ")}
  let a = group / P.tiles_b % P.tiles_a * ${TILE}u;
  let b = group % P.tiles_b * ${TILE}u;
  let along = lane % ${TILE}u;
  for (var k = lane / ${TILE}u; k < ${TILE}u; k += ${LANES / TILE}u) {
    if (a + along < P.a && b + k < P.b) {
      tile[k * ${TILE + 1}u + along] = x_at(u32(from_x + i32(a + along) + i32(b + k) * P.b_in_x));
    }
  }
  workgroupBarrier();
  for (var k = lane / ${TILE}u; k < ${TILE}u; k += ${LANES / TILE}u) {
    if (a + k < P.a && b + along < P.b) {
      y_set(u32(to_y + i32(a + k) * P.a_in_y + i32(b + along)), tile[along * ${TILE + 1}u + k]);
    }
  }
}`,
};

const types: Readonly<Record<string, string>> = { float32: "f32", int32: "i32", float64: "vec2f" };

/** Copies by tiles and says so, or says false where the axes that are contiguous in x and in y are one, or short. */
export function transposed(x: Slot, y: Slot, axes: readonly CopyAxis[], xOffset: number, yOffset: number): boolean {
  const a = axes.find((axis) => axis.x === 1 && axis.n >= LEAST);
  const b = axes.find((axis) => axis.y === 1 && axis.n >= LEAST);
  if (!a || !b || a === b || axes.length > OUTER + 2) return false;
  const outer = axes.filter((axis) => axis !== a && axis !== b);
  const [tilesA, tilesB] = [Math.ceil(a.n / TILE), Math.ceil(b.n / TILE)];
  const parameters: Record<string, number> = {
    ...{ a: a.n, b: b.n, tiles_a: tilesA, tiles_b: tilesB, a_in_y: a.y, b_in_x: b.x },
    ...{ x_offset: xOffset, y_offset: yOffset },
  };
  for (const k of outerAxes) {
    parameters[`n${k}`] = outer[k]?.n ?? 1;
    parameters[`x${k}`] = outer[k]?.x ?? 0;
    parameters[`y${k}`] = outer[k]?.y ?? 0;
  }
  const groups = outer.reduce((product, { n }) => product * n, tilesA * tilesB);
  run(transpose, { operands: { x, y }, parameters, groups, constants: { T: types[arithmeticType(x.dtype)]! } });
  return true;
}
