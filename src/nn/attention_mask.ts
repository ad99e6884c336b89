import { type Tensor, where, written } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { ShapeError } from "../base/errors.js";
import { formatShape, sameShape } from "../base/shape.js";

/** Batch, heads, queries, keys. */
export interface AttentionShape {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
}

/** What is added to the scores [N, H, L, S]: an int32 mask bars where it is not 0, a float mask is added as it is. */
function asBias(mask: Tensor, dtype: DType): Tensor {
  return mask.dtype === "int32" ? where(mask, minusInfinity(dtype), zero(dtype)) : mask.cast(dtype);
}

function constant(value: number, dtype: DType): Tensor {
  return written([], dtype, (to) => to.fill(value));
}
const minusInfinity = (dtype: DType) => constant(Number.NEGATIVE_INFINITY, dtype);
const zero = (dtype: DType) => constant(0, dtype);

/** Bars keys that are padding: mask [N, S]. */
export function keyPaddingBias(mask: Tensor, { batch, keys }: AttentionShape, dtype: DType): Tensor {
  const one = mask.rank === 1 && batch === 1 ? mask.reshape([1, mask.size]) : mask;
  if (!sameShape(one.shape, [batch, keys])) {
    throw new ShapeError({
      rule: `keyPaddingMask has one mark for each key of each sample, shape ${formatShape([batch, keys])}`,
      got: formatShape(mask.shape),
      fix: "Its marks are 1 (int32) where a key is padding",
    });
  }
  return asBias(one, dtype).reshape([batch, 1, 1, keys]);
}

/** Bars pairs of query and key: mask [L, S], or [N * H, L, S] with one for each sample and head. */
export function pairBias(mask: Tensor, { batch, heads, queries, keys }: AttentionShape, dtype: DType): Tensor {
  if (sameShape(mask.shape, [queries, keys])) return asBias(mask, dtype);
  if (sameShape(mask.shape, [batch * heads, queries, keys])) {
    return asBias(mask, dtype).reshape([batch, heads, queries, keys]);
  }
  throw new ShapeError({
    rule: `attnMask has shape ${formatShape([queries, keys])} or ${formatShape([batch * heads, queries, keys])}`,
    got: formatShape(mask.shape),
    fix: "Queries come first, keys second",
  });
}

/** Bars every key after its query: position j from query i where j > i. */
export function causalBias({ queries, keys }: AttentionShape, dtype: DType): Tensor {
  return written([queries, keys], dtype, (to) => {
    to.fill(0);
    for (let i = 0; i < queries; i++) to.fill(Number.NEGATIVE_INFINITY, i * keys + i + 1, (i + 1) * keys);
  });
}
