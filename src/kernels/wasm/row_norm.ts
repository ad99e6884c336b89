import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { RowView } from "../../norm/views.js";
import type { KernelSet, NormGrads, RowStats } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";

/** Floats a unit: small rows go together, so that taking a unit costs little beside its work. */
const UNIT = 4096;
/** Elements of the affine a unit of the merges. */
const MERGE_UNIT = 256;
/** Batch entries whose products with dy are added in float32; their sums are added in float64. */
const BLOCK = 32;
/** Rows longer than this are worked through in tiles: two rows of x and dy would push one another out of the cache. */
const LONG_ROW = 16384;
/** Elements a tile: its sums of float32 stay in the first-level cache. */
const TILE = 1024;
/** Bytes of a row's terms; see RowTerms in assembly/row_norm.ts. */
const TERMS = 40;

const ptr = (slot: Slot | null): number => slot?.ptr ?? 0;

function check(floats: readonly (Slot | null)[], stats: RowStats, view: RowView): void {
  if (floats.some((s) => s !== null && s.dtype !== "float32")) {
    throw new UnsupportedKernel("row normalization has WASM kernels for float32 only");
  }
  if (stats.variance.dtype !== "float64" || (stats.mean !== null && stats.mean.dtype !== "float64")) {
    throw new UnsupportedKernel("row normalization has WASM kernels for statistics in float64 only");
  }
  if (view.size === 0) throw new UnsupportedKernel("row normalization has no WASM kernel for empty rows");
}

export const rowNorm: Pick<KernelSet, "rowNorm" | "rowNormGrad"> = {
  rowNorm(x, weight, bias, y, stats, view, eps) {
    check([x, weight, bias, y], stats, view);
    const { rows, size, groups, inner } = view;
    const unit = Math.ceil(UNIT / size);
    const moments = new Storage(8 * scratchPlaces(), "float64");
    launch("row_norm", Math.ceil(rows / unit), rows * size, [
      ...[x.ptr, ptr(weight), ptr(bias), y.ptr, ptr(stats.mean), stats.variance.ptr, moments.ptr],
      ...[rows, size, groups, inner, eps, unit],
    ]);
    moments.release();
  },

  rowNormGrad(x, dy, weight, stats, out, view, eps) {
    check([x, dy, weight, out.dx, out.dWeight, out.dBias], stats, view);
    const affine = weight !== null || out.dWeight !== null || out.dBias !== null;
    if (affine && view.inner === 1) elementGrad(x, dy, weight, stats, out, view, eps);
    else runGrad(x, dy, weight, stats, out, affine ? view : { ...view, inner: view.size }, eps);
  },
};

/** Weight constant over runs (group and instance norm), or none: each run's sums serve dx, dWeight and dBias. */
function runGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size, groups, inner }: RowView,
  eps: number,
): void {
  const channels = size / inner;
  const unit = Math.ceil(UNIT / size);
  const partial = new Storage(2 * rows * channels, "float64");
  launch("row_norm_grad_runs", Math.ceil(rows / unit), rows * size, [
    ...[x.ptr, dy.ptr, ptr(weight), ptr(stats.mean), stats.variance.ptr, ptr(out.dx), partial.ptr],
    ...[rows, size, groups, inner, eps, unit],
  ]);
  if (out.dWeight || out.dBias) {
    const elements = groups * channels;
    launch("row_norm_merge_runs", Math.ceil(elements / MERGE_UNIT), rows * channels, [
      ...[partial.ptr, ptr(out.dWeight), ptr(out.dBias), rows / groups, elements, MERGE_UNIT],
    ]);
  }
  partial.release();
}

/** Weight different for each element of a row (layer norm, root mean square). */
function elementGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size, groups }: RowView,
  eps: number,
): void {
  const batch = rows / groups;
  const elements = groups * size;
  const adds = out.dWeight !== null || out.dBias !== null;
  // Few or long rows go in tiles of columns, which gives threads enough units and needs few partial sums.
  const tiled = adds && (batch < BLOCK || size > LONG_ROW);
  const block = tiled ? BLOCK : adds ? Math.min(BLOCK, 2 * Math.ceil(batch / 32)) : 2 * Math.ceil(UNIT / size / 2);
  const blocks = Math.ceil(batch / block);
  const columns = tiled ? Math.min(TILE, size) : size;
  const table = new Storage((TERMS / 4) * (tiled ? rows : 2 * scratchPlaces()), "float32");
  const partial = adds ? new Storage(2 * blocks * elements, "float32") : null;
  const ones = weight ? null : new Storage(elements, "float32");
  if (ones) ones.view.fill(1);
  const args = [
    ...[x.ptr, dy.ptr, ptr(weight ?? ones), ptr(stats.mean), stats.variance.ptr, ptr(out.dx), table.ptr, ptr(partial)],
    ...[batch, groups, size, eps, block, columns],
  ];
  const work = 2 * rows * size;
  if (tiled && columns < size) launch("row_norm_grad_terms", rows, work, args);
  launch("row_norm_grad_elements", blocks * groups * Math.ceil(size / columns), work, args);
  if (partial) {
    launch("row_norm_merge_elements", Math.ceil(elements / MERGE_UNIT), blocks * elements, [
      ...[partial.ptr, ptr(out.dWeight), ptr(out.dBias), blocks, elements, MERGE_UNIT],
    ]);
  }
  ones?.release();
  partial?.release();
  table.release();
}
