import { UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { RowView } from "../../norm/views.js";
import type { KernelSet, NormActivation, NormActivationGrad, NormGrads, RowStats } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";
import { activationArgs } from "./activation.js";
import { affineSums, fewAffine, onlyDx } from "./norm_affine.js";

/** Floats a unit: small rows go together, so that taking a unit costs little beside its work. */
const UNIT = 4096;
/** Elements of the affine a unit of the merges. */
const MERGE_UNIT = 256;
/** Batch entries a unit, at most, where sums for dWeight and dBias run over the batch. */
const BLOCK = 64;
/** Below this many batch entries, threads share out the columns in tiles of so many; */
const FEW = 32;
const TILE = 1024;
/** rows longer than this go in tiles too, so that the sums for dWeight and dBias stay in cache: long ones, as memory likes it. */
const LONG_ROW = 16384;
const LONG_TILE = 4096;
/** Batch entries a unit of tiles; see assembly/row_norm_grad_long.ts. */
const LONG_BLOCK = 32;
/** Rows whose dx comes before their shares of dWeight and dBias: many, so that reading goes on in one stream; but all in cache. */
const TOGETHER = 32;
const TOGETHER_BYTES = 1 << 18;
/** Bytes of a row's terms; see RowTerms in assembly/lib_row_terms.ts. */
const TERMS = 32;
/** Elements whose shares are added in float32; see SPAN in assembly/lib_row_terms.ts. */
const SPAN = 256;

/**
 * Rows up to this length, and up to so many elements in all, are gone back through two at a time: longer rows that come from
 * memory do not bear two streams side by side.
 */
const SHORT_ROW = 128;
const NEAR = 1 << 16;
/** Batch entries a unit, in steps of as many as are summed in float32, where rows go by pairs. */
const PAIR_BLOCK = 16;
/** Bytes of the terms of two rows; see PairTerms in assembly/lib_row_pairs.ts. */
const PAIR_TERMS = 80;
/** Rows a unit, at least, where rows have at most 8 elements. */
const FEW_BLOCK = 256;

/** Bytes in whole cache lines. */
const lines = (bytes: number): number => 64 * Math.ceil(bytes / 64);

const fillOnes = (ptr: number, length: number): void => {
  heap.view({ ptr, length, dtype: "float32" }).fill(1);
};

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

/** What one forward launch takes beside x, y and the affine. */
interface ForwardCall {
  readonly stats: RowStats;
  readonly view: RowView;
  readonly eps: number;
  readonly activation?: NormActivation | null | undefined;
  readonly add?: { readonly residual: Slot; readonly sum: Slot };
}

function forward(x: Slot, weight: Slot | null, bias: Slot | null, y: Slot, call: ForwardCall): void {
  const { stats, view, eps, activation, add } = call;
  check([x, weight, bias, y, add?.residual ?? null, add?.sum ?? null], stats, view);
  const { rows, size, groups, inner } = view;
  const unit = Math.ceil(UNIT / size);
  const moments = 64 * scratchPlaces();
  const ones = !weight && bias && inner === 1 ? bias.length : 0;
  const scratch = heap.allocate(moments + 4 * ones);
  const at = heap.address(scratch);
  if (ones > 0) fillOnes(at + moments, ones);
  launch("row_norm", Math.ceil(rows / unit), rows * size, [
    ...[x.ptr, ones > 0 ? at + moments : ptr(weight), ptr(bias), y.ptr, ptr(stats.mean), stats.variance.ptr, at],
    ...[rows, size, groups, inner, eps, unit],
    ...[...activationArgs(activation), ptr(add?.residual ?? null), ptr(add?.sum ?? null)],
  ]);
  heap.free(scratch);
}

/** An activation in backward, and where the gradient to what went into it comes to lie. */
interface Through extends NormActivationGrad {
  readonly dz: Slot;
}

export const rowNorm: Pick<KernelSet, "rowNorm" | "rowNormGrad" | "addRowNorm"> = {
  rowNorm(x, weight, bias, y, stats, view, eps, activation) {
    forward(x, weight, bias, y, { stats, view, eps, activation });
  },

  addRowNorm(x, residual, sum, weight, bias, y, stats, view, eps) {
    forward(x, weight, bias, y, { stats, view, eps, add: { residual, sum } });
  },

  rowNormGrad(x, dy, weight, stats, out, view, eps, activation) {
    check([x, dy, weight, activation?.bias ?? null, out.dx, out.dWeight, out.dBias], stats, view);
    if (!activation) {
      gradients(x, dy, weight, stats, out, view, eps, null);
      return;
    }
    // dz lies in dx, which is not needed before; where nobody asks for dx, it takes the memory that dx would have.
    const own = out.dx ? null : new Storage(x.length, "float32");
    gradients(x, dy, weight, stats, out, view, eps, { ...activation, dz: out.dx ?? own! });
    own?.release();
  },
};

function gradients(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  view: RowView,
  eps: number,
  through: Through | null,
): void {
  const { rows, size, groups, inner } = view;
  const parameters = (groups * size) / inner;
  const grad = (to: NormGrads, by: Through | null, from = dy) => {
    const affine = weight !== null || by?.bias || to.dWeight !== null || to.dBias !== null;
    if (affine && inner === 1) elementGrad(x, from, weight, stats, to, view, eps, by);
    else runGrad(x, from, weight, stats, to, affine ? view : { ...view, inner: size }, eps, by);
  };
  if (!fewAffine(parameters, out)) {
    grad(out, through);
    return;
  }
  if (through) grad({ dx: null, dWeight: null, dBias: null }, through);
  const from = through?.dz ?? dy;
  if (inner === 1 && groups === 1) {
    fewGrad(x, from, weight, stats, out, view, eps);
    return;
  }
  const planes = { planes: rows / groups, outer: 1, inner, affine: parameters, merge: size / inner };
  affineSums(x, from, stats, out, eps, planes);
  if (out.dx) grad(onlyDx(out), null, from);
}

/** The arguments for it that end those of a gradient kernel; at `scratch` lies a cache line for each thread. */
const throughArgs = (through: Through | null, scratch: number): number[] => [
  ...activationArgs(through),
  ...[ptr(through?.bias ?? null), ptr(through?.dz ?? null), scratch],
];

/** Weight constant over runs (group and instance norm), or none: each run's sums serve dx, dWeight and dBias. */
function runGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size, groups, inner }: RowView,
  eps: number,
  through: Through | null,
): void {
  const channels = size / inner;
  const unit = Math.ceil(UNIT / size);
  const partial = lines(16 * rows * channels);
  const scratch = heap.allocate(partial + (through ? 64 * scratchPlaces() : 0));
  const at = heap.address(scratch);
  launch("row_norm_grad_runs", Math.ceil(rows / unit), rows * size, [
    ...[x.ptr, dy.ptr, ptr(weight), ptr(stats.mean), stats.variance.ptr, ptr(out.dx), at],
    ...[rows, size, groups, inner, eps, unit, ...throughArgs(through, at + partial)],
  ]);
  if (out.dWeight || out.dBias) {
    const elements = groups * channels;
    launch("row_norm_merge_runs", Math.ceil(elements / MERGE_UNIT), rows * channels, [
      ...[at, ptr(out.dWeight), ptr(out.dBias), rows / groups, elements, MERGE_UNIT],
    ]);
  }
  heap.free(scratch);
}

/** Weight different for each element of a row (layer norm, root mean square). */
function elementGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  view: RowView,
  eps: number,
  through: Through | null,
): void {
  const { rows, size, groups } = view;
  const batch = rows / groups;
  const elements = groups * size;
  const shares = out.dWeight !== null || out.dBias !== null;
  if (shares && (batch < FEW ? size > TILE : size > LONG_ROW)) {
    longGrad(x, dy, weight, stats, out, view, eps, through);
    return;
  }
  if (shares && out.dx && (size <= SHORT_ROW || rows * size <= NEAR)) {
    pairGrad(x, dy, weight, stats, out, view, eps, through);
    return;
  }
  const block = Math.min(BLOCK, Math.max(Math.ceil((4 * UNIT) / size), Math.ceil(batch / 16)));
  const blocks = Math.ceil(batch / block);
  const together = Math.max(8, Math.min(TOGETHER, Math.floor(TOGETHER_BYTES / (8 * size))));
  const partial = shares ? lines(16 * blocks * elements) : 0;
  const ones = weight ? 0 : lines(4 * elements);
  const stride = 64 + 8 * SPAN + TERMS * together;
  const scratch = heap.allocate(partial + ones + stride * scratchPlaces());
  const at = heap.address(scratch);
  if (!weight) fillOnes(at + partial, elements);
  launch("row_norm_grad_elements", blocks * groups, 2 * rows * size, [
    ...[x.ptr, dy.ptr, weight ? weight.ptr : at + partial, ptr(stats.mean), stats.variance.ptr, ptr(out.dx)],
    ...[at + partial + ones, stride, shares ? at : 0, batch, groups, size, eps, block, together],
    ...[...activationArgs(through), ptr(through?.bias ?? null), ptr(through?.dz ?? null)],
  ]);
  if (shares) mergeBlocks("row_norm_merge_elements", at, out, blocks, elements);
  heap.free(scratch);
}

/**
 * The same of few or long rows: in tiles of columns, so that threads get enough units and the sums for dWeight and dBias
 * stay in cache. dx comes second.
 */
function longGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size, groups }: RowView,
  eps: number,
  through: Through | null,
): void {
  const batch = rows / groups;
  const elements = groups * size;
  const columns = size > LONG_ROW ? LONG_TILE : TILE;
  const tiles = Math.ceil(size / columns);
  const blocks = Math.ceil(batch / LONG_BLOCK);
  const partial = lines(8 * blocks * elements);
  const terms = lines(TERMS * rows * tiles);
  const ones = weight ? 0 : lines(4 * elements);
  const scratch = heap.allocate(partial + terms + ones + (through ? 64 * scratchPlaces() : 0));
  const at = heap.address(scratch);
  const w = weight ? weight.ptr : at + partial + terms;
  if (!weight) fillOnes(w, elements);
  const args = [
    ...[x.ptr, dy.ptr, w, ptr(stats.mean), stats.variance.ptr, ptr(out.dx), at + partial, at],
    ...[batch, groups, size, eps, columns, ...activationArgs(through), ptr(through?.bias ?? null)],
    ...[ptr(through?.dz ?? null), at + partial + terms + ones],
  ];
  launch("row_norm_grad_tiles", blocks * groups * tiles, rows * size, args);
  if (out.dx) launch("row_norm_grad_dx", rows * tiles, rows * size, args);
  mergeBlocks("row_norm_merge_tiles", at, out, blocks, elements);
  heap.free(scratch);
}

/** dx, dWeight and dBias of rows with a weight for each element, two rows at a time. */
function pairGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size, groups }: RowView,
  eps: number,
  through: Through | null,
): void {
  const batch = rows / groups;
  const elements = groups * size;
  const most = Math.min(512, Math.max((2 * UNIT) / size, batch / 16));
  const block = PAIR_BLOCK * Math.ceil(most / PAIR_BLOCK);
  const blocks = Math.ceil(batch / block);
  const together = size <= 192 ? 16 : size <= 384 ? 8 : size <= 768 ? 4 : 2;
  const stride = 64 + lines((together / 2) * PAIR_TERMS) + 2 * lines(4 * size);
  const ones = weight ? 0 : lines(4 * elements);
  const partial = lines(16 * blocks * elements);
  const scratch = heap.allocate(ones + partial + stride * scratchPlaces());
  const at = heap.address(scratch);
  if (!weight) fillOnes(at, elements);
  launch("row_norm_grad_pairs", blocks * groups, 2 * rows * size, [
    ...[x.ptr, dy.ptr, weight ? weight.ptr : at, ptr(stats.mean), stats.variance.ptr, ptr(out.dx)],
    ...[at + ones, at + ones + partial, stride, batch, groups, size, eps, block, together],
    ...[...activationArgs(through), ptr(through?.bias ?? null), ptr(through?.dz ?? null)],
  ]);
  mergeBlocks("row_norm_merge_elements", at + ones, out, blocks, elements);
  heap.free(scratch);
}

/** The same of rows with at most 8 elements, in float64. */
function fewGrad(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  { rows, size }: RowView,
  eps: number,
): void {
  const block = Math.max(FEW_BLOCK, Math.ceil(rows / 64));
  const blocks = Math.ceil(rows / block);
  const partial = heap.allocate(16 * blocks * size);
  const at = heap.address(partial);
  launch("row_norm_grad_few", blocks, 8 * rows * size, [
    ...[x.ptr, dy.ptr, ptr(weight), ptr(stats.mean), stats.variance.ptr, ptr(out.dx), at],
    ...[rows, size, eps, block],
  ]);
  mergeBlocks("row_norm_merge_elements", at, out, blocks, size);
  heap.free(partial);
}

/** dWeight and dBias from the blocks' sums at address `partial`, [blocks, 2, elements]. */
function mergeBlocks(kernel: string, partial: number, out: NormGrads, blocks: number, elements: number): void {
  launch(kernel, Math.ceil(elements / MERGE_UNIT), blocks * elements, [
    ...[partial, ptr(out.dWeight), ptr(out.dBias), blocks, elements, MERGE_UNIT],
  ]);
}
