import { getHeapStatistics } from "node:v8";
import { Random } from "../../src/base/random.js";
import { FormatError } from "../../src/index.js";

/** A change to a file; `random` decides which. A format adds its own, which know its structure, to those of mere bytes. */
export type Mutation = (bytes: Uint8Array, random: Random) => Uint8Array;

export interface MutationOptions {
  /** How many changed files are read; 10,000. */
  readonly files?: number;
  readonly seed?: number;
  /** Changes that know the format: half of the files are made with one of them. */
  readonly mutations?: readonly Mutation[];
  /** Bytes that a reading may take beyond four times the file's: what the reader needs for any file. 8 MiB. */
  readonly allowance?: number;
  /** Milliseconds that a reading may take; 2000. */
  readonly within?: number;
}

export interface Outcomes {
  files: number;
  /** Read without complaint: a change that says something else, or nothing. */
  accepted: number;
  refused: number;
  /** The longest reading, in milliseconds. */
  slowest: number;
  /** The most memory that one reading took beyond the file itself, in bytes. */
  most: number;
}

/**
 * Reads changed files one after the other. A reading ends with a value or a FormatError, within bounded time and within memory
 * measured by the size of the file; anything else throws, with the number of the file and what was done to it.
 */
export async function readMutated(
  samples: readonly Uint8Array[],
  read: (bytes: Uint8Array) => unknown,
  { files = 10_000, seed = 1, mutations = [], allowance = 8 * 2 ** 20, within = 2000 }: MutationOptions = {},
): Promise<Outcomes> {
  const outcomes: Outcomes = { files, accepted: 0, refused: 0, slowest: 0, most: 0 };
  for (let i = 0; i < files; i++) {
    const random = new Random(seed + i);
    const bytes = mutated(samples, mutations, random);
    const before = memory();
    const start = performance.now();
    try {
      await read(bytes);
      outcomes.accepted++;
    } catch (error) {
      if (!(error instanceof FormatError)) {
        throw new Error(`file ${i} (seed ${seed + i}, ${bytes.length} bytes): ${error}`, { cause: error });
      }
      outcomes.refused++;
    }
    const took = performance.now() - start;
    // A collection in between makes it less than it was: the largest of thousands tells.
    const grown = memory() - before;
    outcomes.slowest = Math.max(outcomes.slowest, took);
    outcomes.most = Math.max(outcomes.most, grown);
    if (took > within) throw new Error(`file ${i} (seed ${seed + i}) took ${took.toFixed()} ms`);
    if (grown > 4 * bytes.length + allowance) {
      throw new Error(`file ${i} (seed ${seed + i}, ${bytes.length} bytes) took ${grown} bytes of memory`);
    }
  }
  return outcomes;
}

function memory(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

const below = (random: Random, n: number): number => Math.min(n - 1, Math.floor(random.uniform() * n));
export const pick = <T>(random: Random, list: readonly T[]): T => list[below(random, list.length)]!;

function mutated(samples: readonly Uint8Array[], known: readonly Mutation[], random: Random): Uint8Array {
  let bytes = new Uint8Array(pick(random, samples)) as Uint8Array;
  if (known.length > 0 && random.uniform() < 0.5) return pick(random, known)(bytes, random);
  for (let n = 1 + below(random, 4); n > 0; n--) bytes = pick(random, byteMutations(samples))(bytes, random);
  return bytes;
}

const edges = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
];

const byteMutations = (samples: readonly Uint8Array[]): Mutation[] => [
  function flipBit(bytes, random) {
    if (bytes.length > 0) bytes[below(random, bytes.length)]! ^= 1 << below(random, 8);
    return bytes;
  },
  function setByte(bytes, random) {
    if (bytes.length > 0) bytes[below(random, bytes.length)] = below(random, 256);
    return bytes;
  },
  function writeEdge(bytes, random) {
    const width = pick(random, [1, 2, 4, 8]);
    if (bytes.length < width) return bytes;
    const at = below(random, bytes.length - width + 1);
    const value = pick(random, edges);
    for (let i = 0; i < width; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return bytes;
  },
  // The front of a file is where what it announces stands.
  function changeHead(bytes, random) {
    if (bytes.length > 0) bytes[below(random, Math.min(64, bytes.length))] = below(random, 256);
    return bytes;
  },
  function cut(bytes, random) {
    return bytes.slice(0, below(random, bytes.length + 1));
  },
  function lengthen(bytes, random) {
    return concat(
      bytes,
      Uint8Array.from({ length: 1 + below(random, 64) }, () => below(random, 256)),
    );
  },
  function takeOut(bytes, random) {
    const from = below(random, bytes.length + 1);
    const to = Math.min(bytes.length, from + below(random, 32));
    return concat(bytes.slice(0, from), bytes.slice(to));
  },
  function repeat(bytes, random) {
    const from = below(random, bytes.length + 1);
    const to = Math.min(bytes.length, from + below(random, 64));
    const at = below(random, bytes.length + 1);
    return concat(bytes.slice(0, at), bytes.slice(from, to), bytes.slice(at));
  },
  function join(bytes, random) {
    const other = pick(random, samples);
    return concat(bytes.slice(0, below(random, bytes.length + 1)), other.slice(below(random, other.length + 1)));
  },
];

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A change of one number in the text of a file (a JSON header, a shape) to one that nobody expects. */
export function changeNumber(text: string, random: Random): string {
  const numbers = [...text.matchAll(/-?\d+(\.\d+)?/g)];
  if (numbers.length === 0) return text;
  const { 0: old, index } = pick(random, numbers);
  const odd = pick(random, [
    "0",
    "-1",
    "1",
    "1.5",
    "1e3",
    "1e308",
    "4294967296",
    "9007199254740993",
    "18446744073709551616",
    "null",
    '"8"',
  ]);
  return text.slice(0, index) + odd + text.slice(index + old.length);
}
