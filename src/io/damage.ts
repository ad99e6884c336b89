import { type Complaint, FormatError } from "../base/errors.js";

/** What is wrong with a file, and where: a byte's place, or a name inside the file ("tensor conv.weight", "node 3 (Conv)"). */
export function damaged(
  file: string,
  at: number | string,
  { rule, got, fix }: Complaint,
  cause?: unknown,
): FormatError {
  const place = typeof at === "number" ? `byte ${at}` : at;
  return new FormatError(
    { rule, got: `${got} (${file}, ${place})`, ...(fix === undefined ? {} : { fix }) },
    cause === undefined ? undefined : { cause },
  );
}

/**
 * The number of elements of a shape read from a file. Throws FormatError for extents that are no whole numbers from 0 on, and
 * for a product beyond what `room` elements can be, before anything is allocated for it.
 */
export function elementsWithin(shape: readonly unknown[], room: number, file: string, at: number | string): number {
  const wrong = (got: string): FormatError =>
    damaged(file, at, { rule: `A shape is a list of whole numbers that ${room} elements have room for`, got });
  let count = 1;
  let empty = false;
  for (const extent of shape) {
    if (typeof extent !== "number" || !Number.isSafeInteger(extent) || extent < 0) throw wrong(`[${shape.join(", ")}]`);
    if (extent === 0) empty = true;
    else count *= extent;
    if (!Number.isSafeInteger(count)) throw wrong(`[${shape.join(", ")}]`);
  }
  if (empty) return 0;
  if (count > room) throw wrong(`[${shape.join(", ")}] with ${count} elements`);
  return count;
}
