import type { Communicator } from "../base/communicator.js";
import * as errors from "../base/errors.js";

/** Errors that all ranks have: one of them may speak for all, and all may end in order. */
const everywhere = new WeakSet<object>();

/** Marks an error that every rank throws at the same place. */
export function onAllRanks<E extends object>(error: E): E {
  everywhere.add(error);
  return error;
}

export const isOnAllRanks = (error: unknown): boolean =>
  typeof error === "object" && error !== null && everywhere.has(error);

/** What another rank needs to know of an error. */
export interface ErrorText {
  readonly error: string;
  readonly message: string;
}

type Outcome<T> = { readonly value: T } | ErrorText;

/** What each rank gives, by rank; it must survive JSON. */
export function gatherJson<T>(communicator: Communicator, value: T): T[] {
  const texts = communicator.allGather(new TextEncoder().encode(JSON.stringify(value)));
  return texts.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
}

/**
 * Runs `body`, which calls no other rank, on all ranks, and gives what it returned on each; it must survive JSON. Where it throws on
 * some, all throw: those the error itself, the others one of the same kind and words as the first rank's.
 */
export function together<T>(communicator: Communicator, body: () => T): T[] {
  if (communicator.size === 1) return [body()];
  let outcome: Outcome<T>;
  let own: unknown = null;
  try {
    outcome = { value: body() };
  } catch (error) {
    own = error;
    outcome = errorText(error);
  }
  return shared(gatherJson(communicator, outcome), own);
}

/** The same for what has to be waited for; the other ranks wait meanwhile. */
export async function togetherAsync<T>(communicator: Communicator, body: () => Promise<T>): Promise<T[]> {
  if (communicator.size === 1) return [await body()];
  let outcome: Outcome<T>;
  let own: unknown = null;
  try {
    outcome = { value: await body() };
  } catch (error) {
    own = error;
    outcome = errorText(error);
  }
  return shared(gatherJson(communicator, outcome), own);
}

/** What `body` gives on rank 0, which alone runs it; all ranks have it, or throw. */
export const onRankZero = <T>(communicator: Communicator, body: () => T): T =>
  together<T | null>(communicator, () => (communicator.rank === 0 ? body() : null))[0] as T;

export const onRankZeroAsync = async <T>(communicator: Communicator, body: () => Promise<T>): Promise<T> =>
  (await togetherAsync<T | null>(communicator, async () => (communicator.rank === 0 ? await body() : null)))[0] as T;

export function errorText(error: unknown): ErrorText {
  if (error instanceof Error) return { error: error.name, message: error.message };
  return { error: "Error", message: String(error) };
}

function shared<T>(outcomes: readonly Outcome<T>[], own: unknown): T[] {
  const values: T[] = [];
  for (const outcome of outcomes) {
    if ("error" in outcome) throw onAllRanks(own instanceof Error ? own : errorOf(outcome));
    values.push(outcome.value);
  }
  return values;
}

/** An error of the kind and in the words of another rank's. */
export function errorOf({ error, message }: ErrorText): Error {
  const Kind = (errors as unknown as Record<string, unknown>)[error];
  if (typeof Kind !== "function" || !(Kind.prototype instanceof errors.EvenkeelError)) return new Error(message);
  return new (Kind as new (message: string) => Error)(message);
}
