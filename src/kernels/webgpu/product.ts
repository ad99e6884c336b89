import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import { type Dispatch, run } from "./device.js";
import { groupsFor } from "./elementwise.js";
import type { Program } from "./program.js";
import { type Along, height, lanesOf, type Product, type TileShape, tileProgram, width } from "./tile.js";

const shapes: readonly TileShape[] = [
  { rows: 16, columns: 16, down: 8, across: 8, depth: 8 },
  { rows: 8, columns: 16, down: 8, across: 4, depth: 8 },
  { rows: 8, columns: 8, down: 4, across: 4, depth: 8 },
  { rows: 4, columns: 32, down: 4, across: 4, depth: 8 },
  { rows: 32, columns: 4, down: 4, across: 4, depth: 8 },
  { rows: 2, columns: 32, down: 4, across: 4, depth: 8 },
  { rows: 32, columns: 2, down: 4, across: 4, depth: 8 },
];

/** Lanes that a large device keeps busy; below, sums are split, and smaller tiles are taken. */
const FULL = 1 << 15;
/** A part of a split sum has at least so many products, which outweigh writing and reading its result; */
const LEAST_SHARE = 128;
/** and at most so many, since the rounding of a float32 sum grows with its length. */
const MOST_SHARE = 8192;
/** Numbers that the parts of all results may take, 64 MiB. */
const MOST_PARTIAL = 1 << 24;

/** What is added to each result: element (place / inner) % count of `bias`. */
export interface Bias {
  readonly slot: Slot;
  readonly inner: number;
  readonly count: number;
}

export interface ProductCall {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly depth: number;
  readonly along: Along;
  readonly operands: Dispatch["operands"];
  readonly bias?: Bias | null;
  readonly y: Slot;
  readonly parameters: Readonly<Record<string, number>>;
  readonly constants?: NonNullable<Dispatch["constants"]>;
}

interface Split {
  readonly shape: TileShape;
  readonly down: number;
  readonly across: number;
  readonly splits: number;
  readonly share: number;
}

/** Computes a product of matrices by tiles, in parts where it has few results; parts are added in their order. */
export function runProduct(product: Product, call: ProductCall): void {
  const { batch, m, n, depth, along, operands, bias, y, constants = {} } = call;
  if (batch * m * n === 0) return;
  const { shape, down, across, splits, share } = splitOf(call);
  const parameters = {
    ...{ m, n, depth, tilesDown: down, tilesAcross: across, splits, share, length: y.length },
    ...call.parameters,
  };
  const program = tileProgram(product, shape, along);
  const groups = down * across * splits * batch;
  if (splits === 1) {
    run(program, { operands: { ...operands, bias: bias?.slot, y }, parameters, groups, constants });
    return;
  }
  addParts(y, splits, bias ?? null, (parts) =>
    run(program, { operands: { ...operands, bias: null, y: parts }, parameters, groups, constants }),
  );
}

/**
 * The shape of tile, and number of parts, that take the least time by the count of what a lane does: a product counts 1,
 * each vec4f from workgroup memory 8, each number from memory 8.
 */
function splitOf({ batch, m, n, depth, y }: ProductCall): Split {
  let best: Split | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const shape of shapes) {
    const lanes = lanesOf(shape);
    const [down, across] = [Math.ceil(m / height(shape)), Math.ceil(n / width(shape))];
    const work = lanes * down * across * batch;
    const wanted = Math.max(Math.ceil(depth / MOST_SHARE), Math.min(FULL / work, depth / LEAST_SHARE));
    const most = Math.max(1, Math.min(Math.floor(wanted), Math.floor(MOST_PARTIAL / y.length)));
    const share = Math.max(1, Math.ceil(depth / most / shape.depth)) * shape.depth;
    const splits = Math.max(1, Math.ceil(depth / share));
    const perStep =
      shape.down * shape.across + 2 * (shape.down + shape.across) + (8 * (height(shape) + width(shape))) / lanes;
    const time = perStep * share * Math.max(1, (work * splits) / FULL);
    if (time < least) {
      least = time;
      best = { shape, down, across, splits, share };
    }
  }
  return best!;
}

const merge: Program = {
  name: "add_parts",
  operands: { parts: { access: "read" }, bias: { access: "read" }, y: { access: "write" } },
  parameters: { size: "u32", count: "u32", biasInner: "u32", biasCount: "u32" },
  lanes: 256,
  code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.size) { return; }
  var sum = 0.0;
  for (var k = 0u; k < P.count; k++) { sum += parts_at(k * P.size + i); }
  if (HAS_bias) { sum += bias_at((i / P.biasInner) % P.biasCount); }
  y_set(i, sum);
}`,
};

/** y = the sum of `count` parts, each as long as y, which `compute` writes one after the other; and the bias. */
export function addParts(y: Slot, count: number, bias: Bias | null, compute: (parts: Storage) => void): void {
  const parts = new Storage(count * y.length, "float32", "webgpu");
  try {
    compute(parts);
    const parameters = { size: y.length, count, biasInner: bias?.inner ?? 1, biasCount: bias?.count ?? 1 };
    run(merge, { operands: { parts, bias: bias?.slot, y }, parameters, groups: groupsFor(y.length) });
  } finally {
    parts.release();
  }
}
