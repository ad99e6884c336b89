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

/** What each rank gives, by rank; it must survive JSON. */
export function gatherJson<T>(communicator: Communicator, value: T): T[] {
  const texts = communicator.allGather(new TextEncoder().encode(JSON.stringify(value)));
  return texts.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
}

type Outcome<T> = { readonly value: T } | { readonly thrown: unknown };

function attempt<T>(body: () => T): Outcome<T> {
  try {
    return { value: body() };
  } catch (thrown) {
    return { thrown };
  }
}

async function attemptAsync<T>(body: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await body() };
  } catch (thrown) {
    return { thrown };
  }
}

/** This rank's value, and what `tell` makes of those of all ranks; throws where any rank has thrown. */
function settle<T, U>(communicator: Communicator, outcome: Outcome<T>, tell: (value: T) => U): { own: T; all: U[] } {
  const told = "thrown" in outcome ? errorText(outcome.thrown) : { value: tell(outcome.value) };
  const all = gatherJson<ErrorText | { readonly value: U }>(communicator, told).map((text) => {
    if ("value" in text) return text.value;
    throw onAllRanks("thrown" in outcome && outcome.thrown instanceof Error ? outcome.thrown : errorOf(text));
  });
  return { own: (outcome as { readonly value: T }).value, all };
}

const nothing = () => null;

/**
 * Runs `body`, which calls no other rank, on all ranks, and gives what it returns on this one. Where it throws on some, all throw:
 * those the error itself, the others one of the same kind and words as the first rank's.
 */
export function together<T>(communicator: Communicator, body: () => T): T {
  return communicator.size === 1 ? body() : settle(communicator, attempt(body), nothing).own;
}

/** The same for what has to be waited for. */
export async function togetherAsync<T>(communicator: Communicator, body: () => Promise<T>): Promise<T> {
  return communicator.size === 1 ? body() : settle(communicator, await attemptAsync(body), nothing).own;
}

/** Runs `body` on rank 0 alone, and gives all ranks what it returns, which must survive JSON; where it throws, all do. */
export function onRankZero<T>(communicator: Communicator, body: () => T): T {
  if (communicator.size === 1) return body();
  const outcome: Outcome<T | null> = communicator.rank === 0 ? attempt(body) : { value: null };
  return settle(communicator, outcome, (value) => value).all[0] as T;
}

/** The same for what has to be waited for; the other ranks wait meanwhile. */
export async function onRankZeroAsync<T>(communicator: Communicator, body: () => Promise<T>): Promise<T> {
  if (communicator.size === 1) return body();
  const outcome: Outcome<T | null> = communicator.rank === 0 ? await attemptAsync(body) : { value: null };
  return settle(communicator, outcome, (value) => value).all[0] as T;
}

export function errorText(error: unknown): ErrorText {
  if (error instanceof Error) return { error: error.name, message: error.message };
  return { error: "Error", message: String(error) };
}

/** An error of the kind and in the words of another rank's. */
export function errorOf({ error, message }: ErrorText): Error {
  const Kind = (errors as unknown as Record<string, unknown>)[error];
  if (typeof Kind !== "function" || !(Kind.prototype instanceof errors.EvenkeelError)) {
    return Object.assign(new Error(message), { name: error });
  }
  return new (Kind as new (message: string) => Error)(message);
}
