/** v / 255, rounded to float32 once a value instead of once a pixel. */
const scaled = Float32Array.from({ length: 256 }, (_, v) => v / 255);

/** Bytes 0 to 255 as float32 in [0, 1], written from `offset` on. */
export function scalePixels(bytes: Uint8Array, target: Float32Array, offset: number): void {
  for (let i = 0; i < bytes.length; i++) target[offset + i] = scaled[bytes[i]!]!;
}
