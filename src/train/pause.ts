/** Longer than this without a turn of the event loop, and timers, signals and a page's redraws would lag. */
const MOST_MS = 20;

const turn = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, 0);
  });

/** Lets the event loop turn now and then in a long loop. */
export class Pause {
  private last = performance.now();

  async ifDue(): Promise<void> {
    if (performance.now() - this.last < MOST_MS) return;
    await turn();
    this.last = performance.now();
  }
}
