/** More points than this cannot be told apart on a screen. */
const MOST_POINTS = 800;

/** A line of a chart that grows; when it has too many points, neighbours become their mean. */
export class Curve {
  readonly x: number[] = [];
  readonly y: number[] = [];
  private width = 1;
  private waiting: { x: number; y: number; count: number } | null = null;

  add(x: number, y: number): void {
    const { waiting } = this;
    const next = waiting ? { x, y: waiting.y + y, count: waiting.count + 1 } : { x, y, count: 1 };
    if (next.count < this.width) {
      this.waiting = next;
      return;
    }
    this.waiting = null;
    this.x.push(x);
    this.y.push(next.y / next.count);
    if (this.x.length >= MOST_POINTS) this.halve();
  }

  clear(): void {
    this.x.length = 0;
    this.y.length = 0;
    this.width = 1;
    this.waiting = null;
  }

  get last(): number | null {
    return this.y.at(-1) ?? null;
  }

  private halve(): void {
    const half = this.x.length >> 1;
    for (let i = 0; i < half; i++) {
      this.x[i] = this.x[2 * i + 1]!;
      this.y[i] = (this.y[2 * i]! + this.y[2 * i + 1]!) / 2;
    }
    this.x.length = half;
    this.y.length = half;
    this.width *= 2;
  }
}
