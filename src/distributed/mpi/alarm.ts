import { Worker } from "node:worker_threads";

/** Milliseconds that a timer may take: one of more would ring at once. */
const LONGEST = 2 ** 31 - 1;

/** Milliseconds that its thread may take to start. */
const BOOT = 10_000;

const guard = `
const { writeSync } = require("node:fs");
const { up, seconds, reason } = require("node:worker_threads").workerData;
setTimeout(() => {
  // process.stderr of a worker is written by the main thread, which is not to be had.
  writeSync(2, reason + "\\n");
  process.kill(process.pid, "SIGKILL");
}, Math.min(1000 * seconds, ${LONGEST}));
Atomics.store(up, 0, 1);
Atomics.notify(up, 0);
`;

/**
 * Runs `body`, which waits in native code for as long as it likes, and ends this process with a line on standard error where that is longer
 * than so many seconds: nothing on this thread could. `body` may change the environment: it begins once the other thread is up, which reads
 * that as it starts.
 */
export function withAlarm<T>(seconds: number, reason: string, body: () => T): T {
  const up = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(guard, { eval: true, execArgv: [], workerData: { up, seconds, reason } });
  worker.unref();
  Atomics.wait(up, 0, 0, BOOT);
  try {
    return body();
  } finally {
    void worker.terminate();
  }
}
