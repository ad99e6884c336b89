let leave = (): void => {};

/** Says how this process leaves the ranks it has joined. */
export function setLeaving(how: () => void): void {
  leave = how;
}

/**
 * Leaves the ranks, for an end that all of them agreed on: waits until all have called it, after which each may exit with any
 * code. Without it a rank leaves when its process ends. Does nothing where this process has joined none.
 */
export function finalizeDistributed(): void {
  leave();
}
