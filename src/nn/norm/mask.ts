import { Tensor } from "../../autograd/index.js";
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

/** A mask as a 1 or 0 for each position of x, which are x's places without the channel axis. */
export function readMask(layer: string, mask: Mask, x: Shape, axis: number): Uint8Array {
  const a = normalizeAxis(axis, x.length, "The channel axis");
  const positions = x.filter((_, i) => i !== a);
  const flat: { shape: Shape; entries: ArrayLike<unknown> } | null =
    mask instanceof Tensor ? { shape: mask.shape, entries: mask.storage.view } : flatten(mask);
  if (!flat || !sameShape(flat.shape, positions)) {
    throw new ShapeError({
      rule: `${layer} takes a mask ${formatShape(positions)} for an input ${formatShape(x)}: its axes but the channels`,
      got: flat ? formatShape(flat.shape) : "rows of different lengths",
    });
  }
  const { entries } = flat;
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
