// Tiles through an activation: what lib_column_tiles.ts does, and f or f' in the same pass.
import { RELU, activate, activateGrad, rectifyGrad } from "./lib_activation";
import { CENTRE, OFFSET, SCALE } from "./lib_column_sheet";
import { addSums, applyRows, tileApply } from "./lib_column_tiles";
import { loadLanes, storeLanes } from "./lib_lanes";

/** Floats that go through an activation at a time, if their rows are not longer: they lie in the first-level cache. */
const PIECE: usize = 4096;

/** Rows in a piece; eight at least, as tileSums takes them. */
@inline function rowsAtATime(width: usize): usize { return max<usize>(8, (PIECE / width) & ~7); }

/** tileApply, and what is negative becomes 0. */
function tileRelu(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, together: bool,
): void {
  if (together) {
    const part = rows >> 2, far = part * stride;
    for (let i: usize = 0; i < part; i++, x += stride, y += stride) applyRows(x, y, width, far, table, step, 4, true);
    x += 3 * far; y += 3 * far;
    rows &= 3;
  }
  for (; rows > 0; rows--, x += stride, y += stride) applyRows(x, y, width, 0, table, step, 1, true);
}

/** y = f((x - CENTRE) * SCALE + OFFSET). */
export function tileActivate(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, together: bool, op: i32,
  alpha: f32,
): void {
  if (op == RELU) {
    tileRelu(x, y, rows, width, stride, table, step, together);
    return;
  }
  const most = rowsAtATime(width), bytes = width << 2;
  for (let left = rows; left > 0; ) {
    const n = min(most, left);
    tileApply(x, y, n, width, stride, table, step, together);
    for (let r: usize = 0; r < n; r++, x += stride, y += stride) activate(op, y, y, bytes, alpha);
    left -= n;
  }
}

/** dz = dy * f'((x - CENTRE) * SCALE + OFFSET). */
export function tileDz(
  x: usize, dy: usize, dz: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, op: i32,
  alpha: f32,
): void {
  if (op == RELU) {
    for (; rows > 0; rows--, x += stride, dy += stride, dz += stride) reluDz(x, dy, dz, width, table, step);
    return;
  }
  tileApply(x, dz, rows, width, stride, table, step, false);
  for (; rows > 0; rows--, dy += stride, dz += stride) activateGrad(op, dz, dy, dz, width << 2, alpha);
}

function reluDz(x: usize, dy: usize, dz: usize, width: usize, table: usize, step: usize): void {
  for (const end = x + ((width & ~3) << 2); x < end; x += 16, dy += 16, dz += 16, table += step) {
    reluDzLanes(x, dy, dz, 4, table);
  }
  if (width & 3) reluDzLanes(x, dy, dz, width & 3, table);
}

@inline function reluDzLanes(x: usize, dy: usize, dz: usize, n: usize, t: usize): void {
  const v = f32x4.mul(f32x4.sub(loadLanes(x, n), v128.load(t, CENTRE)), v128.load(t, SCALE));
  storeLanes(dz, n, rectifyGrad(f32x4.add(v, v128.load(t, OFFSET)), loadLanes(dy, n)));
}

/** dz, and the sums with dz in the place of dy. */
export function tileSumsThrough(
  x: usize, dy: usize, dz: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, centre: usize,
  op: i32, alpha: f32, sumDy: usize, sumDyX: usize,
): void {
  const most = rowsAtATime(width);
  memory.fill(sumDy, 0, width << 3);
  memory.fill(sumDyX, 0, width << 3);
  while (rows > 0) {
    const n = min(most, rows), bytes = n * stride;
    tileDz(x, dy, dz, n, width, stride, table, step, op, alpha);
    addSums(x, dz, n, width, stride, centre, sumDy, sumDyX);
    x += bytes; dy += bytes; dz += bytes;
    rows -= n;
  }
}
