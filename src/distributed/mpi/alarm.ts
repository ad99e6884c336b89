import { Worker } from "node:worker_threads";

/** Milliseconds that a timer may take: one of more would ring at once. */
const LONGEST = 2 ** 31 - 1;

const guard = `
const { workerData } = require("node:worker_threads");
setTimeout(() => {
  // process.stderr of a worker is written by the main thread, which is not to be had.
  require("node:fs").writeSync(2, workerData.reason + "\\n");
  process.kill(process.pid, "SIGKILL");
}, Math.min(1000 * workerData.seconds, ${LONGEST}));
`;

/**
 * Runs `body`, which waits in native code for as long as it likes, and ends this process with a line on standard error where that is longer
 * than so many seconds: nothing on this thread could.
 */
export function withAlarm<T>(seconds: number, reason: string, body: () => T): T {
  const worker = new Worker(guard, { eval: true, execArgv: [], workerData: { seconds, reason } });
  worker.unref();
  try {
    return body();
  } finally {
    void worker.terminate();
  }
}
