/** The pieces of a file in one array; of `size` bytes where that is known, so that not all pieces are there at once. */
export function joined(pieces: Iterable<Uint8Array>, size?: number): Uint8Array {
  const list = size === undefined ? [...pieces] : pieces;
  const whole = new Uint8Array(size ?? (list as Uint8Array[]).reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of list) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
