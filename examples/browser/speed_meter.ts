const WINDOW = 1000;
const FEWEST = 3;

/** Steps a second over about the last second, whatever else was done in it. */
export class SpeedMeter {
  private times: number[] = [];

  add(milliseconds: number): void {
    this.times.push(milliseconds);
    // The last step before the window begins it, so that slow steps are measured too.
    while (this.times.length > FEWEST && this.times[1]! < milliseconds - WINDOW) this.times.shift();
  }

  get rate(): number | null {
    const { times } = this;
    if (times.length < FEWEST) return null;
    const seconds = (times.at(-1)! - times[0]!) / 1000;
    return seconds > 0 ? (times.length - 1) / seconds : null;
  }

  clear(): void {
    this.times = [];
  }
}
