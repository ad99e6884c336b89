import { isTraced, Tensor, tensor } from "../../autograd/index.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { formatShape, normalizeAxis, type Shape, sameShape } from "../../base/shape.js";

/** What each position is: 1 or true where it is valid, 0 or false where it is padding. */
export type Mask = Tensor | NestedMask;
export type NestedMask = boolean | number | readonly NestedMask[];

/** What stands at padded positions of the output: zeros, or x as it came. */
export type Padded = "zero" | "keep";
export const paddedChoices = ["zero", "keep"] as const;

/** Shape and entries of nested arrays; null where they are no regular array. */
function flatten(mask: NestedMask): { shape: Shape; entries: unknown[] } | null {
  if (!Array.isArray(mask)) return { shape: [], entries: [mask] };
  const parts = mask.map(flatten);
  const first = parts[0];
  if (!first) return mask.length === 0 ? { shape: [0], entries: [] } : null;
  if (parts.some((p) => !p || !sameShape(p.shape, first.shape))) return null;
  return { shape: [mask.length, ...first.shape], entries: parts.flatMap((p) => p!.entries) };
}

/**
 * A mask on x's device: 1 at valid positions, else 0, in x's type and shape but for the channel axis, which has length 1. Of a
 * mask that lies on another device than the CPU, or of a run that is traced, nobody looks at the numbers: what is not 0 is valid.
 */
export function maskBeside(layer: string, mask: Mask, x: Tensor, axis: number): Tensor {
  const a = normalizeAxis(axis, x.rank, "The channel axis");
  const beside = x.shape.map((d, i) => (i === a ? 1 : d));
  if (mask instanceof Tensor && (mask.device !== "cpu" || isTraced())) {
    checkPositions(layer, mask.shape, x.shape, a);
    return mask.detach().notEqual(0).cast(x.dtype).reshape(beside);
  }
  const valid = Float32Array.from(readMask(layer, mask, x.shape, axis));
  return tensor(valid, { shape: beside, dtype: x.dtype, device: x.device });
}

function checkPositions(layer: string, shape: Shape | null, x: Shape, a: number): void {
  const positions = x.filter((_, i) => i !== a);
  if (shape && sameShape(shape, positions)) return;
  throw new ShapeError({
    rule: `${layer} takes a mask ${formatShape(positions)} for an input ${formatShape(x)}: its axes but the channels`,
    got: shape ? formatShape(shape) : "rows of different lengths",
  });
}

/** A mask as a 1 or 0 for each position of x, which are x's places without the channel axis. */
export function readMask(layer: string, mask: Mask, x: Shape, axis: number): Uint8Array {
  const a = normalizeAxis(axis, x.length, "The channel axis");
  const flat: { shape: Shape; entries: ArrayLike<unknown> } | null =
    mask instanceof Tensor ? { shape: mask.shape, entries: mask.storage.view } : flatten(mask);
  checkPositions(layer, flat?.shape ?? null, x, a);
  const { entries } = flat!;
  const valid = new Uint8Array(entries.length);
  for (let i = 0; i < valid.length; i++) {
    const v = entries[i];
    if (v === 1 || v === true) valid[i] = 1;
    else if (v !== 0 && v !== false) {
      throw new DTypeError({
        rule: `${layer} takes a mask of 0 and 1, or of false and true`,
        got: String(v),
        fix: "Compare first: mask.greater(0)",
      });
    }
  }
  return valid;
}
