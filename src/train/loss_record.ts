/** The loss of every step as float32, as long as the run goes on. */
export class LossRecord {
  private values = new Float32Array(1024);
  private count = 0;

  constructor(values?: ArrayLike<number>) {
    for (let i = 0; i < (values?.length ?? 0); i++) this.add(values![i]!);
  }

  get length(): number {
    return this.count;
  }

  add(loss: number): void {
    if (this.count === this.values.length) {
      const larger = new Float32Array(2 * this.count);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.count++] = loss;
  }

  /** A copy of all losses so far. */
  all(): Float32Array<ArrayBuffer> {
    return this.values.slice(0, this.count);
  }

  /** Mean of the losses from step `start` (counted from 0) on; null when there are none. */
  meanSince(start: number): number | null {
    if (start >= this.count) return null;
    let sum = 0;
    for (let i = start; i < this.count; i++) sum += this.values[i]!;
    return sum / (this.count - start);
  }

  /** SHA-256 in hex over the float32 bits, little-endian; null where there is no digest (a page without https). */
  async digest(): Promise<string | null> {
    const subtle = globalThis.crypto?.subtle;
    if (!subtle) return null;
    const view = new DataView(new ArrayBuffer(4 * this.count));
    for (let i = 0; i < this.count; i++) view.setFloat32(4 * i, this.values[i]!, true);
    const bytes = new Uint8Array(await subtle.digest("SHA-256", view));
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }
}
