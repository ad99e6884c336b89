import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { NormGrads, RowStats } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";

/** Affine parameters up to which their gradients are summed in float64 alone. */
const FEW = 8;

/** x as [planes, affine, inner]; `merge` neighbouring parameters share a statistic, `outer` neighbouring planes too. */
interface Planes {
  readonly planes: number;
  readonly outer: number;
  readonly affine: number;
  readonly inner: number;
  readonly merge: number;
}

/**
 * Whether dWeight and dBias go through affineSums. They are promised within 2.5e-7 of the largest; with few parameters
 * all sums may cancel by chance, and then even short float32 sums are too coarse beside what is left. With more
 * parameters the largest of them is no small one.
 */
export const fewAffine = (parameters: number, out: NormGrads): boolean =>
  parameters <= FEW && (out.dWeight !== null || out.dBias !== null);

export const onlyDx = ({ dx }: NormGrads): NormGrads => ({ dx, dWeight: null, dBias: null });

/** dWeight and dBias, each if wanted: float32 products and sums nowhere, one rounding at the end. */
export function affineSums(x: Slot, dy: Slot, stats: RowStats, out: NormGrads, eps: number, on: Planes): void {
  const { planes, outer, affine, inner, merge } = on;
  const single = stats.variance.dtype === "float32" ? 1 : 0;
  const scratch = new Storage(8 * scratchPlaces(), "float64");
  launch("norm_affine_sums", affine, 2 * x.length, [
    ...[x.ptr, dy.ptr, stats.mean?.ptr ?? 0, stats.variance.ptr, single, eps],
    ...[out.dWeight?.ptr ?? 0, out.dBias?.ptr ?? 0],
    ...[planes, outer, affine, inner, affine / merge, merge, scratch.ptr],
  ]);
  scratch.release();
}
