import type { Tensor } from "../../autograd/index.js";
import { StateError } from "../../base/errors.js";

let moving = true;

/** Whether a training forward moves running statistics now. */
export const runningStatsMove = (): boolean => moving;

/** Runs `body` with running statistics that move, or that are held still. */
export function withRunningStats<T>(move: boolean, body: () => T): T {
  const before = moving;
  moving = move;
  try {
    return body();
  } finally {
    moving = before;
  }
}

/**
 * Runs `body` with the running statistics of every layer held still: for a second forward over the same batch, which must
 * not count the batch twice.
 */
export function noStatsUpdate<T>(body: () => T): T {
  return withRunningStats(false, () => {
    const result = body();
    if (typeof (result as { then?: unknown } | null | undefined)?.then === "function") {
      throw new StateError({
        rule: "noStatsUpdate() takes a synchronous function",
        got: "a promise",
        fix: "Put noStatsUpdate around each synchronous part",
      });
    }
    return result;
  });
}

let listener: ((state: Tensor) => void) | null = null;

/** Runs `body` and tells `listen` of statistics before they are written. */
export function tellingMoves<T>(listen: ((state: Tensor) => void) | null, body: () => T): T {
  const before = listener;
  listener = listen;
  try {
    return body();
  } finally {
    listener = before;
  }
}

/** To be called before a forward writes to statistics that may be a caller's own, not a buffer of a module. */
export const aboutToMove = (state: Tensor): void => listener?.(state);
