/**
 * A call that has begun. `await` it where the event loop should go on turning, or `wait()` for it; until one of them returns, what
 * was given to the call must be left alone, and is not read or written by anybody else.
 */
export interface Pending<T> extends PromiseLike<T> {
  /** Moves the call on as far as it goes at once; whether it is complete. Throws what the call throws. */
  test(): boolean;
  /** Returns the result once the call is complete. Throws what the call throws. */
  wait(): T;
}

/** A call that is complete already. */
export const finished = <T>(value: T): Pending<T> => ({
  test: () => true,
  wait: () => value,
  // biome-ignore lint/suspicious/noThenProperty: await is how a pending call is waited for.
  then: (resolved, rejected) => Promise.resolve(value).then(resolved, rejected),
});
