import type { Communicator } from "../../src/base/communicator.js";
import { Random } from "../../src/base/random.js";

/** Longer than one piece of a message, and no multiple of it. */
const LONG = 20_011;

export const communicatorJobs = {
  /** All calls, over and over, so that ranks overtake each other where they may. */
  calls(c: Communicator) {
    const results: number[][] = [];
    const random = new Random(100 + c.rank);
    for (let i = 0; i < 200; i++) {
      const numbers = Float64Array.from({ length: 7 }, () => random.normal());
      const [sum, max, min, from] = [numbers.slice(), numbers.slice(), Float32Array.from(numbers), numbers.slice()];
      c.allReduce(sum, "sum");
      c.allReduce(max, "max");
      c.allReduce(min, "min");
      c.broadcast(from, i % c.size);
      c.barrier();
      const parts = c.allGather(numbers.subarray(0, (i + 3 * c.rank) % 5));
      results.push([...sum, ...max, ...min, ...from, ...parts.flatMap((p) => [p.length, ...p])]);
    }
    return results;
  },

  long(c: Communicator) {
    const numbers = Float64Array.from({ length: LONG }, (_, i) => 1 / (1 + i + c.rank));
    const single = Float32Array.from(numbers);
    const parts = c.allGather(numbers.subarray(0, c.rank === 1 ? 0 : LONG - c.rank));
    c.allReduce(numbers, "sum");
    c.allReduce(single, "sum");
    c.broadcast(single, c.size - 1);
    return { numbers, single, parts };
  },

  /** Rank 1 throws while the others wait for it. */
  throws(c: Communicator) {
    if (c.rank === 1) {
      c.abort("no more data");
      throw new Error("no more data");
    }
    c.barrier();
    c.barrier();
  },

  dies(c: Communicator) {
    c.barrier();
    if (c.rank === 1) process.exit(7);
    c.barrier();
  },

  /** The last rank makes one call less. */
  late(c: Communicator) {
    c.barrier();
    if (c.rank < c.size - 1) c.allReduce(new Float64Array(2), "sum");
  },

  otherCall(c: Communicator) {
    if (c.rank === 1) c.barrier();
    else c.allReduce(new Float64Array(2), "sum");
  },

  otherLength: (c: Communicator) => c.allReduce(new Float64Array(LONG * c.rank), "sum"),
  otherType: (c: Communicator) => c.allGather(c.rank === 1 ? new Float32Array(1) : new Float64Array(1)),
  otherRoot: (c: Communicator) => c.broadcast(new Float64Array(1), c.rank),

  /** A call after the group broke. */
  again(c: Communicator) {
    try {
      communicatorJobs.otherCall(c);
    } catch {
      c.barrier();
    }
  },
};
