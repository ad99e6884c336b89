/** Exit codes are 128 and the signal's number. */
const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;
export type StopSignal = keyof typeof exitCodes;

export const exitCodeOf = (signal: StopSignal): number => exitCodes[signal];

export interface SignalWatch {
  /** The first signal that came, or null. */
  readonly received: StopSignal | null;
  /** Gives the signals back to whoever had them. */
  close(): void;
}

/**
 * Calls `onFirst` on the first SIGINT or SIGTERM; a second one ends the process at once, for a person who cannot wait.
 */
export function watchSignals(onFirst: (signal: StopSignal) => void): SignalWatch {
  const watch = { received: null as StopSignal | null, close };
  const handlers = (Object.keys(exitCodes) as StopSignal[]).map((signal) => {
    const handler = () => {
      if (watch.received) process.exit(exitCodes[signal]);
      watch.received = signal;
      onFirst(signal);
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  function close(): void {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
  return watch;
}
