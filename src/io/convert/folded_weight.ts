import type { NumberArray } from "../../base/dtype.js";
import { contiguousStrides, type Shape } from "../../base/shape.js";
import { computed, typeOf, type Value } from "./value.js";

export type Parametrized = "weight norm" | "spectral norm";

/** Which tensors a parametrized weight is kept as. */
export const partNames: Readonly<Record<Parametrized, readonly string[]>> = {
  "weight norm": ["weight_g", "weight_v"],
  "spectral norm": ["weight_orig", "weight_u", "weight_v"],
};

/**
 * Weight and spectral normalization as the plain weight that the layer computes with in evaluation, for frameworks that have no
 * such tensors. Summed in float64. `rows` is the axis of u in spectral normalization.
 */
export function foldedWeight(by: Parametrized, slots: ReadonlyMap<string, Value>, rows: number): Value {
  const parts = partNames[by].map((name) => slots.get(name)!);
  const whole = by === "weight norm" ? parts[1]! : parts[0]!;
  const compute =
    by === "weight norm" ? weightNormed(whole.shape, parts[0]!.shape) : spectrallyNormed(whole.shape, rows);
  return computed(whole.shape, typeOf(whole), parts, compute);
}

type Compute = (parts: readonly NumberArray[]) => NumberArray;

/** g v / |v|, a norm for each place of g. */
function weightNormed(shape: Shape, norms: Shape): Compute {
  const strides = contiguousStrides(norms).map((s, axis) => (norms[axis] === 1 ? 0 : s));
  return ([g, v]) => {
    const sums = new Float64Array(g!.length);
    const place = placeOf(shape, strides);
    for (let i = 0; i < v!.length; i++) sums[place(i)]! += v![i]! ** 2;
    // A zero vector has no direction: zero weights, as in nn.weightNorm.
    return v!.map((x, i) => (x * g![place(i)]!) / (Math.sqrt(sums[place(i)]!) || 1));
  };
}

/** w / (u^T W v), W having `rows` down and all other axes across. */
function spectrallyNormed(shape: Shape, rows: number): Compute {
  const down = placeOf(
    shape,
    shape.map((_, axis) => (axis === rows ? 1 : 0)),
  );
  const rest = contiguousStrides(shape.filter((_, axis) => axis !== rows));
  const across = placeOf(
    shape,
    shape.map((_, axis) => (axis === rows ? 0 : rest[axis - (axis > rows ? 1 : 0)]!)),
  );
  return ([w, u, v]) => {
    let sigma = 0;
    for (let i = 0; i < w!.length; i++) sigma += w![i]! * u![down(i)]! * v![across(i)]!;
    return w!.map((x) => x / (sigma || 1));
  };
}

/** From the place in a tensor to the place in what is strided over it. */
function placeOf(shape: Shape, strides: readonly number[]): (i: number) => number {
  const own = contiguousStrides(shape);
  return (i) => {
    let place = 0;
    let rest = i;
    for (let axis = 0; axis < shape.length; axis++) {
      const at = Math.floor(rest / own[axis]!);
      rest -= at * own[axis]!;
      place += at * (strides[axis] ?? 0);
    }
    return place;
  };
}
