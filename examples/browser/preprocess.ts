/** A point of the pad, in any unit; y grows downwards. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** The points of one movement of the pen; a single one is a dot. */
export type Stroke = readonly Point[];

const SIZE = 8;
/** The digits were bitmaps of 32 x 32 pixels, of which each block of 4 x 4 became one number: its share of ink. */
const BLOCK = 4;
const BITMAP = SIZE * BLOCK;
/**
 * They fill the height and are narrower than wide. Of 18, 20, 22, 24 and 26 pixels, networks read distorted strokes best at 18 and
 * 20; wider, the loops of an 8 open more than those of the data, and it is taken for a 9.
 */
const WIDEST = 20;
/** Share of ink over all digits of the data: 0.30 to 0.32 for each of the ten. */
const INK = 0.305;
/** Widths of the pen, in pixels of the bitmap, between which the one that gives as much ink is looked for. */
const THINNEST = 2.5;
const THICKEST = 7;
const HALVINGS = 7;

/**
 * Strokes as an image like those of the data: scaled to fill the height, at most WIDEST wide, centred, drawn with a pen of the
 * width that gives the usual amount of ink, and counted in blocks of 4 x 4 pixels. Where and how large something was
 * drawn does not matter then, nor how thick.
 * Returns 64 shares from 0 to 1, row by row; null where nothing is drawn.
 */
export function imageOf(strokes: readonly Stroke[]): Float32Array | null {
  const points = strokes.flat();
  if (points.length === 0) return null;
  let [thin, thick] = [THINNEST, THICKEST];
  for (let i = 0; i < HALVINGS; i++) {
    const width = (thin + thick) / 2;
    if (inkOf(blocks(fitted(strokes, width), width)) > INK) thick = width;
    else thin = width;
  }
  return blocks(fitted(strokes, thin), thin);
}

function inkOf(image: Float32Array): number {
  return image.reduce((a, b) => a + b, 0) / image.length;
}

/** Scales and moves strokes so that, drawn with a pen of this width, they fill the bitmap's height or its widest width. */
function fitted(strokes: readonly Stroke[], pen: number): Stroke[] {
  const points = strokes.flat();
  const [left, right] = extent(points.map((p) => p.x));
  const [top, bottom] = extent(points.map((p) => p.y));
  const [width, height] = [right - left, bottom - top];
  const [roomX, roomY] = [WIDEST - pen, BITMAP - pen];
  // A dot has neither; a flat line would be blown up without end.
  const scaleY = roomY / Math.max(height, width / 2, 1e-6);
  // What is wider than the data's digits is made narrower, not smaller.
  const scaleX = Math.min(scaleY, roomX / Math.max(width, 1e-6));
  const x = (p: Point) => BITMAP / 2 + (p.x - (left + right) / 2) * scaleX;
  const y = (p: Point) => BITMAP / 2 + (p.y - (top + bottom) / 2) * scaleY;
  return strokes.map((stroke) => stroke.map((p) => ({ x: x(p), y: y(p) })));
}

function extent(values: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return [low, high];
}

/** Shares of ink in the blocks: a pixel is inked when its middle is within half a pen's width of a stroke. */
function blocks(strokes: readonly Stroke[], pen: number): Float32Array {
  const inked = new Uint8Array(BITMAP * BITMAP);
  for (const stroke of strokes) {
    for (const [i, to] of stroke.entries()) paint(inked, stroke[i - 1] ?? to, to, pen / 2);
  }
  const image = new Float32Array(SIZE * SIZE);
  for (const [i, on] of inked.entries()) {
    const [row, column] = [Math.floor(i / BITMAP / BLOCK), Math.floor((i % BITMAP) / BLOCK)];
    image[row * SIZE + column]! += on / BLOCK ** 2;
  }
  return image;
}

function paint(inked: Uint8Array, from: Point, to: Point, radius: number): void {
  const clamp = (v: number) => Math.min(BITMAP - 1, Math.max(0, v));
  const [x0, x1] = extent([from.x, to.x]);
  const [y0, y1] = extent([from.y, to.y]);
  for (let row = clamp(Math.floor(y0 - radius)); row <= clamp(Math.ceil(y1 + radius)); row++) {
    for (let column = clamp(Math.floor(x0 - radius)); column <= clamp(Math.ceil(x1 + radius)); column++) {
      const middle = { x: column + 0.5, y: row + 0.5 };
      if (distance(middle, from, to) <= radius) inked[row * BITMAP + column] = 1;
    }
  }
}

/** From a point to the nearest of a line's. */
function distance(p: Point, from: Point, to: Point): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length2 = dx * dx + dy * dy;
  const along = length2 === 0 ? 0 : ((p.x - from.x) * dx + (p.y - from.y) * dy) / length2;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(p.x - from.x - t * dx, p.y - from.y - t * dy);
}
