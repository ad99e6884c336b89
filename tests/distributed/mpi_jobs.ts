import { createHash } from "node:crypto";
import type { Combination, Communicator, Elements, Numbers } from "../../src/base/communicator.js";
import type { Pending } from "../../src/base/pending.js";
import { Random } from "../../src/base/random.js";
import { initDistributed } from "../../src/distributed/index.js";
import { meanwhile } from "../../src/kernels/threads/meanwhile.js";
import { launch } from "../../src/kernels/threads/pool.js";
import { Storage } from "../../src/memory/storage.js";

// The program of a rank in tests over MPI: does the job that its first argument names. Whole lines, since ranks share one output.
const say = (result: object): void => void process.stdout.write(`${JSON.stringify(result)}\n`);

const digest = createHash("sha256");
/** Bits that a rank got count as right when they are those of what it works out for itself, from all ranks' seeds. */
function expectBits(what: string, got: Elements, want: Elements): void {
  const [a, b] = [got, want].map((data) => Buffer.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
  digest.update(a!);
  if (a!.equals(b!)) return;
  const first = Array.from(want).findIndex((v, i) => !Object.is(v, got[i]));
  throw new Error(`${what}: [${first}] of ${want.length} is ${got[first]}, not ${want[first]}`);
}

type Make = Float32ArrayConstructor | Float64ArrayConstructor;

/** What rank r holds in round `seed`: numbers of such different sizes that another order of addition shows. */
function numbersOf(make: Make, length: number, seed: number, rank: number): Numbers {
  const random = new Random(seed * 100 + rank);
  return make.from(Array.from({ length }, (_, i) => random.normal() * 10 ** (i % 7)));
}

const rules: Readonly<Record<Combination, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  max: Math.max,
  min: Math.min,
};

function combined(make: Make, how: Combination, length: number, seed: number, size: number): Numbers {
  const all = Array.from({ length: size }, (_, r) => numbersOf(make, length, seed, r));
  return make.from(Array.from({ length }, (_, i) => all.map((own) => own[i]!).reduce((a, b) => rules[how](a, b))));
}

/** The same numbers in a tensor's memory. */
function onHeap(data: Numbers): { view: Numbers; storage: Storage } {
  const storage = new Storage(data.length, data instanceof Float32Array ? "float32" : "float64");
  storage.view.set(data);
  return { view: storage.view as Numbers, storage };
}

function everyCall(c: Communicator, lengths: readonly number[], seeds: number): void {
  const { rank, size } = c;
  for (const length of lengths) {
    for (const make of [Float32Array, Float64Array]) {
      for (const how of ["sum", "max", "min"] as const) {
        const seed = seeds + length;
        const want = combined(make, how, length, seed, size);
        const own = numbersOf(make, length, seed, rank);
        const { view, storage } = onHeap(own);
        c.allReduce(own, how);
        expectBits(`allReduce ${how} ${length}`, own, want);
        c.allReduce(view, how);
        expectBits(`allReduce ${how} ${length} of a tensor`, view.slice(), want);
        storage.release();
      }
    }
    for (let root = 0; root < size; root++) {
      const data = numbersOf(Float64Array, length, 7, rank);
      c.broadcast(data, root);
      expectBits(`broadcast ${length}`, data, numbersOf(Float64Array, length, 7, root));
    }
    const unequal = (r: number) => numbersOf(Float32Array, (length * r) % 1001, 8, r);
    const parts = c.allGather(unequal(rank));
    for (const [r, part] of parts.entries()) expectBits(`allGather ${length}`, part, unequal(r));
    const bytes = c.allGather(Uint8Array.of(rank, length % 256), { equalLengths: true });
    for (const [r, part] of bytes.entries()) expectBits("allGather of bytes", part, Uint8Array.of(r, length % 256));
    const whole = c.allGather(Int32Array.from({ length: rank }, () => -rank));
    for (const [r, part] of whole.entries())
      expectBits(
        "allGather of int32",
        part,
        Int32Array.from({ length: r }, () => -r),
      );
    c.barrier();
  }
}

/** Calls of one and two parts under way at once, waited for in another order on each rank, by wait, test and await. */
async function interleaved(c: Communicator, seed: number): Promise<void> {
  const same = new Random(seed);
  const own = new Random(seed + 1000 * (c.rank + 1));
  const open: { pending: Pending<unknown>; check: (value: unknown) => void }[] = [];
  for (let i = 0; i < 120; i++) {
    const round = seed + i;
    const kind = same.below(4);
    if (kind === 0) {
      // Longer than what goes in one part, or shorter.
      const length = same.below(2) === 0 ? 8501 : 17;
      const data = numbersOf(Float32Array, length, round, c.rank);
      const want = combined(Float32Array, "sum", length, round, c.size);
      open.push({ pending: c.allReduceAsync(data, "sum"), check: () => expectBits(`call ${i}`, data, want) });
    } else if (kind === 1) {
      const of = (r: number) => numbersOf(Float64Array, (i * (r + 1)) % 50, round, r);
      const check = (parts: unknown) => {
        for (const [r, part] of (parts as Float64Array[]).entries()) expectBits(`call ${i}`, part, of(r));
      };
      open.push({ pending: c.allGatherAsync(of(c.rank)), check });
    } else if (kind === 2) {
      const data = numbersOf(Float64Array, 33, round, c.rank);
      const want = numbersOf(Float64Array, 33, round, i % c.size);
      open.push({ pending: c.broadcastAsync(data, i % c.size), check: () => expectBits(`call ${i}`, data, want) });
    } else open.push({ pending: c.barrierAsync(), check: () => {} });
    while (open.length > own.below(9)) {
      const [{ pending, check }] = open.splice(own.below(open.length), 1) as [(typeof open)[number]];
      const way = own.below(3);
      if (way === 0) check(await pending);
      else {
        if (way === 1) while (!pending.test());
        check(pending.wait());
      }
    }
  }
  for (const { pending, check } of open.reverse()) check(pending.wait());
}

/**
 * Calls that long kernels ask after in their pauses: other kernels', and those that add up the parts of a call. One that is asked after from
 * within itself must go on as if nobody had.
 */
function inPauses(c: Communicator): void {
  // Parts so long that adding them up pauses.
  const length = 1_200_011;
  const other = new Storage(1 << 20, "float32");
  const { view, storage } = onHeap(new Float32Array(length));
  const open: Pending<void>[] = [];
  let pauses = 0;
  const stop = meanwhile(() => {
    pauses++;
    for (const pending of open) pending.test();
  });
  const ranks = (c.size * (c.size + 1)) / 2;
  const want = new Float32Array(length);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < length; i++) {
      view[i] = (i % 97) * (c.rank + 1) + round;
      want[i] = (i % 97) * ranks + round * c.size;
    }
    open[0] = c.allReduceAsync(view, "sum");
    open[1] = c.allReduceAsync(Float64Array.of(c.rank), "sum");
    do {
      if (round % 2 === 0) launch("fill", 1 << 14, 1e7, [other.ptr, other.length, round, 64]);
    } while (!open[0].test());
    open[1].wait();
    expectBits(`in pauses, ${round}`, view.slice(), want);
  }
  stop();
  if (pauses === 0) throw new Error("no kernel paused");
  for (const s of [other, storage]) s.release();
}

/** The message of what `body` throws. */
function complaint(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
  return "nothing was thrown";
}

const jobs: Record<string, () => void | Promise<void>> = {
  async calls() {
    const c = initDistributed();
    const { rank, size } = c;
    everyCall(c, [0, 1, 2, 5, 1023, 8501], 0);
    const [pair, node, none] = [c.split(rank % 2), c.splitByNode(), c.split(rank === 0 ? null : 3)];
    everyCall(pair!, [3], 50);
    for (let i = 0; i < 3; i++) await interleaved(c, 10_000 * (i + 1));
    inPauses(c);
    c.barrier();
    // The event loop turns while a call is awaited.
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    if (rank === 0) await new Promise((resolve) => setTimeout(resolve, 60));
    const before = turns;
    await c.barrierAsync();
    clearInterval(timer);
    const groups = [pair!.rank, pair!.size, node.rank, node.size, none?.rank ?? -1, none?.size ?? -1];
    say({ rank, size, groups, turned: rank === 0 || turns - before > 5, again: initDistributed() === c });
    // In one order on all ranks: its own bits are the only thing that a rank computes here.
    const hash = c.allGather(Uint8Array.from(digest.digest()), { equalLengths: true });
    say({ rank, hash: Buffer.from(hash[rank]!).toString("hex") });
  },

  /** Each in a group of its own, since a mismatch ends a group. */
  mismatches() {
    const c = initDistributed({ checkCalls: true, timeout: 20 });
    const odd = c.rank === 1;
    const cases: ((g: Communicator) => unknown)[] = [
      (g) => (odd ? g.barrier() : g.allReduce(new Float64Array(2), "sum")),
      (g) => g.allReduce(new Float64Array(odd ? 3 : 2), "sum"),
      (g) => g.allReduceAsync(odd ? new Float32Array(2) : new Float64Array(2), "sum").wait(),
      (g) => g.broadcast(new Float64Array(1), c.rank),
      (g) => g.allGather(odd ? new Int32Array(1) : new Uint8Array(1)),
    ];
    const said = cases.map((body) => {
      const group = c.split(0)!;
      const first = complaint(() => body(group));
      // Of no more use, and no call reaches the others.
      return [first, complaint(() => group.barrier()) === first];
    });
    c.barrier();
    say({ rank: c.rank, said });
  },
};

await jobs[process.argv[2]!]!();
