import type { Point, Stroke } from "./preprocess.js";

/** Ellipse arc in degrees, clockwise on the screen, 0 to the right. */
function arc(x: number, y: number, rx: number, ry: number, from: number, to: number): Point[] {
  const parts = Math.max(2, Math.ceil(Math.abs(to - from) / 12));
  return Array.from({ length: parts + 1 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / parts) * Math.PI) / 180;
    return { x: x + rx * Math.cos(angle), y: y + ry * Math.sin(angle) };
  });
}

const line = (...numbers: number[]): Point[] =>
  Array.from({ length: numbers.length / 2 }, (_, i) => ({ x: numbers[2 * i]!, y: numbers[2 * i + 1]! }));

/** The ten digits as one would write them, in the unit square: for those who cannot or would not draw. */
export const sampleDigits: readonly (readonly Stroke[])[] = [
  [arc(0.5, 0.5, 0.26, 0.36, -90, 270)],
  [line(0.36, 0.3, 0.54, 0.14, 0.54, 0.86)],
  [[...arc(0.48, 0.33, 0.22, 0.19, -160, 30), ...line(0.28, 0.85, 0.76, 0.85)]],
  [[...arc(0.46, 0.32, 0.22, 0.18, -150, 90), ...arc(0.46, 0.67, 0.25, 0.18, -90, 150)]],
  [line(0.55, 0.14, 0.28, 0.6, 0.76, 0.6), line(0.6, 0.36, 0.56, 0.87)],
  [[...line(0.7, 0.15, 0.38, 0.15, 0.35, 0.46), ...arc(0.47, 0.64, 0.23, 0.21, -120, 140)]],
  [[...line(0.58, 0.13, 0.38, 0.4), ...arc(0.5, 0.66, 0.2, 0.2, 180, -180)]],
  [line(0.27, 0.16, 0.73, 0.16, 0.42, 0.87), line(0.34, 0.52, 0.7, 0.52)],
  [[...arc(0.5, 0.31, 0.19, 0.17, 90, 450), ...arc(0.5, 0.67, 0.22, 0.19, -90, 270)]],
  [[...arc(0.49, 0.33, 0.2, 0.2, 20, -340), ...line(0.68, 0.4, 0.62, 0.65, 0.45, 0.86)]],
];
