// Tiles through an activation: what lib_column_tiles.ts does, and f or f' in the same pass.
import { RELU, activate, activateGrad, rectifyGrad } from "./lib_activation";
import { CENTRE, OFFSET, SCALE } from "./lib_column_sheet";
import { addSums, applyRows, tileApply } from "./lib_column_tiles";

/** Floats that go through an activation at a time, if their rows are not longer: they lie in the first-level cache. */
const PIECE: usize = 4096;

/** Rows in a piece; eight at least, as tileSums takes them. */
@inline function rowsAtATime(width: usize): usize { return max<usize>(8, (PIECE / width) & ~7); }

/** tileApply, and what is negative becomes 0. */
function tileRelu(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize, together: bool,
): void {
  if (together) {
    for (const four = stride << 2; rows >= 4; rows -= 4, x += four, y += four) {
      applyRows(x, y, width, stride, table, plane, true, true);
    }
  }
  for (; rows > 0; rows--, x += stride, y += stride) applyRows(x, y, width, 0, table, plane, false, true);
}

/** y = f((x - CENTRE) * SCALE + OFFSET). */
export function tileActivate(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize, together: bool, op: i32,
  alpha: f32,
): void {
  if (op == RELU) {
    tileRelu(x, y, rows, width, stride, table, plane, together);
    return;
  }
  const step = rowsAtATime(width), bytes = width << 2;
  for (let left = rows; left > 0; ) {
    const n = min(step, left);
    tileApply(x, y, n, width, stride, table, plane, together);
    for (let r: usize = 0; r < n; r++, x += stride, y += stride) activate(op, y, y, bytes, alpha);
    left -= n;
  }
}

/** dz = dy * f'((x - CENTRE) * SCALE + OFFSET). */
export function tileDz(
  x: usize, dy: usize, dz: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize, op: i32,
  alpha: f32,
): void {
  if (op == RELU) {
    for (; rows > 0; rows--, x += stride, dy += stride, dz += stride) reluDz(x, dy, dz, width, table, plane);
    return;
  }
  tileApply(x, dz, rows, width, stride, table, plane, false);
  for (; rows > 0; rows--, dy += stride, dz += stride) activateGrad(op, dz, dy, dz, width << 2, alpha);
}

function reluDz(x: usize, dy: usize, dz: usize, width: usize, table: usize, plane: usize): void {
  const vectors = (width & ~3) << 2, end = width << 2;
  const centre = table + CENTRE * plane, scale = table + SCALE * plane, offset = table + OFFSET * plane;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const v = f32x4.mul(f32x4.sub(v128.load(x + j), v128.load(centre + j)), v128.load(scale + j));
    v128.store(dz + j, rectifyGrad(f32x4.add(v, v128.load(offset + j)), v128.load(dy + j)));
  }
  for (; j < end; j += 4) {
    const v = (load<f32>(x + j) - load<f32>(centre + j)) * load<f32>(scale + j) + load<f32>(offset + j);
    store<f32>(dz + j, v <= 0 ? 0 : load<f32>(dy + j));
  }
}

/** dz, and the sums with dz in the place of dy. */
export function tileSumsThrough(
  x: usize, dy: usize, dz: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize, op: i32,
  alpha: f32, sumDy: usize, sumDyX: usize,
): void {
  const step = rowsAtATime(width);
  memory.fill(sumDy, 0, width << 3);
  memory.fill(sumDyX, 0, width << 3);
  while (rows > 0) {
    const n = min(step, rows), bytes = n * stride;
    tileDz(x, dy, dz, n, width, stride, table, plane, op, alpha);
    addSums(x, dz, n, width, stride, table + CENTRE * plane, sumDy, sumDyX);
    x += bytes; dy += bytes; dz += bytes;
    rows -= n;
  }
}
