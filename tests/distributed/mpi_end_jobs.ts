import { setTimeout as sleep } from "node:timers/promises";
import { finalizeDistributed, initDistributed } from "../../src/distributed/index.js";

// The program of a rank that ends in the way that its first argument names; the last rank begins with it.
const [, , job, seconds] = process.argv;
const c = initDistributed(seconds ? { timeout: Number(seconds) } : undefined);
const last = c.rank === c.size - 1;
const numbers = new Float32Array(3);
c.barrier();

const jobs: Record<string, () => void | Promise<void>> = {
  good() {},
  throws() {
    if (last) throw new Error("bad batch");
    c.allReduce(numbers, "sum");
  },
  async rejects() {
    if (last) Promise.reject(new Error("lost promise"));
    await c.allReduceAsync(numbers, "sum");
    await c.allReduceAsync(numbers, "sum");
    await sleep(3000);
    c.barrier();
  },
  exits() {
    if (last) process.exit(3);
    c.barrier();
  },
  leaves() {
    if (last) process.exit(0);
    c.barrier();
  },
  async leavesAwaited() {
    if (last) return;
    await c.barrierAsync();
  },
  killed() {
    if (last) process.kill(process.pid, "SIGKILL");
    c.barrier();
  },
  terminated() {
    if (last) process.kill(process.pid, "SIGTERM");
    c.barrier();
  },
  gaveUp() {
    if (last) c.abort("no more data");
    c.barrier();
  },
  agreed() {
    finalizeDistributed();
    process.exit(143);
  },
  absent() {
    if (last) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10_000);
    c.barrier();
  },
  endless() {
    for (;;) c.allReduce(numbers, "sum");
  },
};

await jobs[job!]!();
