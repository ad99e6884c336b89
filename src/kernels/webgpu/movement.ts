import { arithmeticType } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { KernelSet, StridedPlan } from "../kernel_set.js";
import { run } from "./device.js";
import { elementProgram, elementwise, groupsFor, only } from "./elementwise.js";
import type { Program } from "./program.js";
import { type CopyAxis, transposed } from "./transpose.js";

const MAX_RANK = 8;
const LANES = 256;

const axes = Array.from({ length: MAX_RANK }, (_, i) => i);
const stridedParameters: Program["parameters"] = {
  ...Object.fromEntries(axes.map((k) => [`shape${k}`, "u32" as const])),
  ...Object.fromEntries(axes.map((k) => [`stride${k}`, "i32" as const])),
  offset: "i32",
};

/**
 * $PLACE gives the place on the strided side of element i of the contiguous one. Four numbers at a time where the last axis
 * (axis 0 here) has stride 1 and all other steps are multiples of four.
 */
const gather = elementProgram(
  "gather",
  ["x"],
  "fn f(i: u32) -> $T { var left = i; var place = P.offset / i32(STEP); $PLACE return x_at(u32(place)); }",
  stridedParameters,
);
const scatter: Program = {
  name: "scatter",
  operands: { x: { access: "read" }, y: { access: "write" } },
  parameters: { size: "u32", ...stridedParameters },
  lanes: LANES,
  wide: true,
  code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.size / STEP) { return; }
  var left = i;
  var place = P.offset / i32(STEP);
  $PLACE
  y_set(u32(place), x_at(i));
}`,
};

interface Axis {
  readonly n: number;
  readonly stride: number;
}

/** The axes from the last to the first, without those of length 1, and with neighbours merged where the strides step on evenly. */
function axesOf({ shape, strides }: StridedPlan): Axis[] {
  const list: Axis[] = [];
  for (let k = shape.length - 1; k >= 0; k--) {
    const axis = { n: shape[k]!, stride: strides[k]! };
    if (axis.n === 1) continue;
    const last = list.at(-1);
    if (last && axis.stride === last.stride * last.n)
      list[list.length - 1] = { n: last.n * axis.n, stride: last.stride };
    else list.push(axis);
  }
  return list;
}

/** The axes with their steps on the side that `plan` strides over, and on the other, which is contiguous. */
function stepsOf(list: readonly Axis[], strided: "x" | "y"): CopyAxis[] {
  let step = 1;
  return list.map(({ n, stride }) => {
    const other = step;
    step *= n;
    return strided === "x" ? { n, x: stride, y: other } : { n, x: other, y: stride };
  });
}

const types: Readonly<Record<string, string>> = { float32: "E", int32: "I", float64: "vec2f" };

function copy(program: Program, x: Slot, y: Slot, plan: StridedPlan): void {
  const { name } = program;
  if (x.dtype !== y.dtype)
    throw new UnsupportedKernel(`${name} on webgpu takes one type, not ${x.dtype} and ${y.dtype}`);
  const list = axesOf(plan);
  if (list.length > MAX_RANK) {
    throw new UnsupportedKernel(`${name} on webgpu takes up to ${MAX_RANK} axes that do not merge, not ${list.length}`);
  }
  const size = plan.shape.reduce((total, n) => total * n, 1);
  const inTiles =
    name === "gather"
      ? transposed(x, y, stepsOf(list, "x"), plan.offset, 0)
      : transposed(x, y, stepsOf(list, "y"), 0, plan.offset);
  if (inTiles) return;
  const [fastest, ...rest] = list;
  const wide =
    fastest?.stride === 1 && [fastest.n, plan.offset, ...rest.map(({ stride }) => stride)].every((n) => n % 4 === 0);
  const parameters: Record<string, number> = { size, offset: plan.offset };
  for (const k of axes) {
    parameters[`shape${k}`] = list[k]?.n ?? 1;
    parameters[`stride${k}`] = list[k]?.stride ?? 0;
  }
  const constants = { T: types[arithmeticType(x.dtype)]!, PLACE: placeOf(list.length) };
  run(program, { operands: { x, y }, parameters, groups: groupsFor(size), constants, wide });
}

/** Steps of axis 0 are single elements where these are fours. */
const placeOf = (rank: number): string =>
  axes
    .slice(0, rank)
    .map((k) => {
      const [shape, stride] = k === 0 ? ["P.shape0 / STEP", "P.stride0"] : [`P.shape${k}`, `P.stride${k} / i32(STEP)`];
      return `{ let n = ${shape}; place += i32(left % n) * (${stride}); left /= n; }`;
    })
    .join(" ");

/** A row that the table does not have gives NaN: its number lies on the device, where nobody has checked it. */
const embedding: Program = {
  name: "embedding",
  operands: { table: { access: "read" }, index: { access: "read", narrow: true }, y: { access: "write" } },
  parameters: { size: "u32", width: "u32", rows: "i32" },
  lanes: LANES,
  wide: true,
  code: `
var<private> NOT_A_NUMBER: u32 = 0x7fc00000u;
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.size / STEP) { return; }
  let width = P.width / STEP;
  let row = index_at(i / width);
  if (row < 0 || row >= P.rows) { y_set(i, E(bitcast<f32>(NOT_A_NUMBER))); }
  else { y_set(i, table_at(u32(row) * width + i % width)); }
}`,
};

/**
 * For each index the next one that names the same row (0 where there is none: no index follows itself), and whether there
 * is one before it. Lanes of a group look through a tile of indices together.
 */
const links: Program = {
  name: "embedding_links",
  operands: { index: { access: "read" }, next: { access: "write" }, before: { access: "write" } },
  parameters: { count: "u32" },
  lanes: LANES,
  code: `
var<workgroup> tile: array<i32, LANES>;
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  var row = -1;
  if (i < P.count) { row = index_at(i); }
  var found = 0u;
  for (var first = group * LANES; first < P.count; first += LANES) {
    workgroupBarrier();
    if (first + lane < P.count) { tile[lane] = index_at(first + lane); }
    workgroupBarrier();
    let length = min(LANES, P.count - first);
    for (var j = 0u; j < length && found == 0u; j++) {
      if (tile[j] == row && first + j > i) { found = first + j; }
    }
  }
  if (i < P.count) {
    next_set(i, i32(found));
    if (found > 0u) { before_set(found, 1); }
  }
}`,
};

/** The first index of a row adds what belongs to that row, in order. */
const embeddingGrad: Program = {
  name: "embedding_grad",
  operands: {
    index: { access: "read", narrow: true },
    next: { access: "read", narrow: true },
    before: { access: "read", narrow: true },
    dy: { access: "read" },
    table: { access: "write" },
  },
  parameters: { count: "u32", width: "u32", rows: "i32" },
  lanes: LANES,
  wide: true,
  code: `
fn run(group: u32, lane: u32) {
  let width = P.width / STEP;
  let first = (group * LANES + lane) / width;
  let column = (group * LANES + lane) % width;
  if (first >= P.count) { return; }
  let row = index_at(first);
  if (row < 0 || row >= P.rows || before_at(first) != 0) { return; }
  let to = u32(row) * width + column;
  var sum = table_at(to);
  var i = first;
  loop {
    sum += dy_at(i * width + column);
    i = u32(next_at(i));
    if (i == 0u) { break; }
  }
  table_set(to, sum);
}`,
};

export const movement: Pick<KernelSet, "gather" | "scatter" | "embedding" | "embeddingGrad"> = {
  gather: (x, y, plan) => copy(gather, x, y, plan),

  scatter(x, y, plan) {
    if (x.length > 0 && plan.strides.some((stride, axis) => stride === 0 && plan.shape[axis]! > 1)) {
      throw new UnsupportedKernel("scatter on webgpu writes each place once, and a stride of 0 names one more often");
    }
    copy(scatter, x, y, plan);
  },

  embedding(table, index, y, width) {
    only("embedding", ["float32"], table, y);
    const parameters = { size: y.length, width, rows: table.length / width };
    run(embedding, { operands: { table, index, y }, parameters, groups: groupsFor(y.length), wide: width % 4 === 0 });
  },

  embeddingGrad(index, dy, dTable, width) {
    only("embeddingGrad", ["float32"], dy, dTable);
    const count = index.length;
    if (count === 0 || width === 0) return;
    const [next, before] = [new Storage(count, "int32", "webgpu"), new Storage(count, "int32", "webgpu")];
    elementwise.fill(before, 0);
    run(links, { operands: { index, next, before }, parameters: { count }, groups: groupsFor(count) });
    const parameters = { count, width, rows: dTable.length / width };
    const operands = { index, next, before, dy, table: dTable };
    run(embeddingGrad, { operands, parameters, groups: groupsFor(count * width), wide: width % 4 === 0 });
    next.release();
    before.release();
  },
};
