/** Exit codes are 128 and the signal's number. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129, SIGUSR2: 140 } as const;
export type StopSignal = keyof typeof exitCodes;

export const exitCodeOf = (signal: StopSignal): number => exitCodes[signal];

/** What stops a run of one process. */
const toOne: readonly StopSignal[] = ["SIGINT", "SIGTERM"];
/**
 * What stops one of several ranks. Schedulers give notice by a signal of one's choice, and mpirun passes SIGUSR2 on without ending the
 * job itself, as it does after SIGTERM; SIGUSR1 starts Node's debugger.
 */
const toRanks: readonly StopSignal[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"];

/** Within this time a launcher passes on to its ranks what they got already, sent to all processes of the job. */
const SAME_SIGNAL_MS = 1000;

export interface SignalWatch {
  /** The first signal that came, or null. */
  readonly received: StopSignal | null;
  /** Gives the signals back to whoever had them; of several ranks one that is about to end keeps them. */
  close(): void;
}

/**
 * Calls `onFirst` on the first signal that stops a run of so many ranks; a second one ends the process at once, for a person who cannot
 * wait. With several ranks the second one counts only after a second.
 */
export function watchSignals(onFirst: (signal: StopSignal) => void, ranks = 1): SignalWatch {
  const watch = { received: null as StopSignal | null, close };
  let firstTime = 0;
  const handlers = (ranks > 1 ? toRanks : toOne).map((signal) => {
    const handler = () => {
      const now = performance.now();
      if (watch.received) {
        if (ranks === 1 || now - firstTime > SAME_SIGNAL_MS) process.exit(exitCodes[signal]);
        return;
      }
      firstTime = now;
      watch.received = signal;
      onFirst(signal);
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  function close(): void {
    // A launcher that sees the first rank go sends the others a signal once more, which would change their exit codes.
    if (ranks > 1 && watch.received) return;
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
  return watch;
}
