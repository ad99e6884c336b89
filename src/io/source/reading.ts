import type { ByteSource, SyncSource } from "./byte_source.js";

/** A part of a source that a reader asks for: the bytes [from, to). */
export interface Part {
  readonly source: ByteSource;
  readonly from: number;
  readonly to: number;
}

/** The steps of a reader, which stop at each part they need: written once, and run with waiting or without. */
export type Reading<T> = Generator<Part, T, Uint8Array>;

export function* readPart(source: ByteSource, from: number, to: number): Reading<Uint8Array> {
  return yield { source, from, to };
}

/** Runs a reading whose sources all need no waiting. */
export function readNow<T>(reading: Reading<T>): T {
  let step = reading.next();
  while (!step.done) {
    const { source, from, to } = step.value;
    step = reading.next((source as SyncSource).readNow(from, to));
  }
  return step.value;
}

export async function readLater<T>(reading: Reading<T>): Promise<T> {
  let step = reading.next();
  while (!step.done) {
    const { source, from, to } = step.value;
    step = reading.next(await source.read(from, to));
  }
  return step.value;
}
