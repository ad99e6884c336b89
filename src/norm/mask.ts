import { normalizeAxis, numberOfElements, type Shape } from "../base/shape.js";

/**
 * Where the values of x at valid positions go when they are put close together, as runs of neighbours, five numbers a
 * run: start in x, start in the compact array, length, and for each further channel how far on in x and in the other.
 */
export interface CompactPlan {
  readonly runs: Float64Array;
  /** Channels of a run; 1 where channels lie last, since a run then spans them all. */
  readonly channels: number;
  /** Shape of x, and elements of the compact array. */
  readonly shape: Shape;
  readonly size: number;
  /** Whether channels lie last in the compact array, as they do in x. */
  readonly last: boolean;
}

interface Layout {
  readonly outer: number;
  readonly channels: number;
  readonly inner: number;
}

function layoutOf(shape: Shape, axis: number): Layout {
  const a = normalizeAxis(axis, shape.length, "The channel axis");
  return {
    outer: numberOfElements(shape.slice(0, a)),
    channels: shape[a]!,
    inner: numberOfElements(shape.slice(a + 1)),
  };
}

/** Runs of valid positions in [from, to) of a mask over [outer, inner]; none crosses a row of `inner`. */
function eachRun(
  valid: Uint8Array,
  from: number,
  to: number,
  row: number,
  visit: (at: number, n: number) => void,
): void {
  for (let at = from; at < to; ) {
    if (!valid[at]) {
      at++;
      continue;
    }
    const limit = row === 1 ? to : Math.min(to, (Math.floor(at / row) + 1) * row);
    let end = at + 1;
    while (end < limit && valid[end]) end++;
    visit(at, end - at);
    at = end;
  }
}

/** Runs of the positions [from, to), whose `count` valid ones go to an array [C, count] or, channels last, [count, C]. */
function addRuns(
  runs: number[],
  valid: Uint8Array,
  { channels, inner }: Layout,
  [from, to]: readonly [number, number],
  count: number,
  start: number,
): void {
  let put = 0;
  eachRun(valid, from, to, inner, (at, n) => {
    if (inner === 1) runs.push(at * channels, start + put * channels, n * channels, 0, 0);
    else {
      const o = Math.floor(at / inner);
      runs.push(o * channels * inner + (at - o * inner), start + put, n, inner, count);
    }
    put += n;
  });
}

const countIn = (valid: Uint8Array, from: number, to: number): number => {
  let n = 0;
  for (let i = from; i < to; i++) n += valid[i]!;
  return n;
};

const planOf = (runs: number[], shape: Shape, { channels, inner }: Layout, count: number): CompactPlan => ({
  runs: Float64Array.from(runs),
  channels: inner === 1 ? 1 : channels,
  shape,
  size: count * channels,
  last: inner === 1,
});

/** All valid positions of a batch as one: [C, V], or [V, C] where channels lie last. `valid` has a 1 or 0 for each. */
export function compactBatch(valid: Uint8Array, shape: Shape, axis: number): { plan: CompactPlan; count: number } {
  const layout = layoutOf(shape, axis);
  const count = countIn(valid, 0, valid.length);
  const runs: number[] = [];
  addRuns(runs, valid, layout, [0, valid.length], count, 0);
  return { plan: planOf(runs, shape, layout, count), count };
}

/** Samples that have as many valid positions as each other, one after another from element `start` on. */
export interface Bucket {
  readonly count: number;
  readonly samples: number;
  readonly start: number;
}

/** Each sample by itself, [C, count] or [count, C], those of one count beside each other. Samples without any are left out. */
export function compactSamples(
  valid: Uint8Array,
  shape: Shape,
  axis: number,
): { plan: CompactPlan; buckets: Bucket[] } {
  const layout = layoutOf(shape, axis);
  const samples = shape[0]!;
  const each = valid.length / samples;
  const byCount = new Map<number, number[]>();
  for (let n = 0; n < samples; n++) {
    const count = countIn(valid, n * each, (n + 1) * each);
    if (count === 0) continue;
    const members = byCount.get(count);
    if (members) members.push(n);
    else byCount.set(count, [n]);
  }
  const runs: number[] = [];
  const buckets: Bucket[] = [];
  let total = 0;
  for (const [count, members] of byCount) {
    buckets.push({ count, samples: members.length, start: total * layout.channels });
    for (const n of members) {
      addRuns(runs, valid, layout, [n * each, (n + 1) * each], count, total * layout.channels);
      total += count;
    }
  }
  return { plan: planOf(runs, shape, layout, total), buckets };
}
