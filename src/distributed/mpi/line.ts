import { CommunicationError } from "../../base/errors.js";
import type { Pending } from "../../base/pending.js";
import { napAfter } from "./patience.js";

/** A part of a call that the library does by itself: begins it, with the place of its request. */
export type Part = (request: ArrayBufferView) => void;

/** What a line asks of the library. */
export interface Requests {
  room(): ArrayBufferView;
  /** Whether a request is complete. */
  test(request: ArrayBufferView): boolean;
}

/**
 * The calls of one communicator that are under way, oldest first. A call has one or two parts. First parts are begun with
 * the call; a second one, on a communicator of its own, only when those of all earlier calls have been: so that every rank begins
 * all parts in the same order, whichever of its requests happens to be complete first.
 */
export class Line {
  private readonly calls: Call<unknown>[] = [];
  private broken: unknown = null;

  constructor(
    private readonly requests: Requests,
    /** Seconds that a call may take. */
    private readonly timeout: number,
    /** Whether other ranks want this rank's core while it waits. */
    private readonly crowded: boolean,
  ) {}

  begin<T>(what: string, first: Part, second: Part | null, result: () => T): Pending<T> {
    if (this.broken) throw this.broken;
    const call = new Call(this, what, this.requests, second, result);
    this.guarded(() => call.begin(first));
    this.calls.push(call);
    return call;
  }

  /** Moves all calls on as far as they go at once. */
  advance(): void {
    if (this.broken) throw this.broken;
    this.guarded(() => {
      let inOrder = true;
      for (const call of this.calls) {
        call.advance(inOrder);
        inOrder &&= call.begun;
      }
      while (this.calls[0]?.complete) this.calls.shift();
    });
  }

  /** Ends the group for this rank: all calls throw, now and later. */
  break(error: unknown): void {
    this.broken ??= error;
  }

  private guarded(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.break(error);
      throw error;
    }
  }

  /** Returns once `call` is complete. */
  waitFor(call: Call<unknown>): void {
    const nap = napAfter(this.crowded);
    while (!call.complete) {
      this.advance();
      if (call.complete) return;
      nap();
      this.checkTime(call);
    }
  }

  async turnFor(call: Call<unknown>): Promise<void> {
    const turns = performance.now() + 10;
    while (!call.complete) {
      this.advance();
      if (call.complete) return;
      this.checkTime(call);
      // A timer of a millisecond leaves the processor to others, but is late for short calls.
      const soon = performance.now() < turns;
      await new Promise<void>((resolve) => (soon ? setImmediate(resolve) : setTimeout(resolve, 1)));
    }
  }

  private checkTime(call: Call<unknown>): void {
    if (performance.now() - call.since < this.timeout * 1000) return;
    this.guarded(() => {
      throw new CommunicationError({
        rule: `All ranks of a group make the same calls, each within ${this.timeout} seconds of the others`,
        got: `${call.what}, in which not all ranks took part`,
        fix: "Look for a rank that failed, or that skipped a layer or a batch; where ranks do take that long, set timeout",
      });
    });
  }
}

class Call<T> implements Pending<T> {
  readonly since = performance.now();
  complete = false;
  private value: T | undefined;
  private readonly request: ArrayBufferView;

  constructor(
    private readonly line: Line,
    readonly what: string,
    private readonly requests: Requests,
    private second: Part | null,
    private readonly result: () => T,
  ) {
    this.request = requests.room();
  }

  /** Whether all parts are. */
  get begun(): boolean {
    return this.second === null;
  }

  begin(part: Part): void {
    part(this.request);
  }

  advance(mayBegin: boolean): void {
    if (this.complete || this.waiting) {
      if (!this.waiting || !mayBegin) return;
    } else if (!this.requests.test(this.request)) return;
    if (this.second) {
      this.waiting = !mayBegin;
      if (this.waiting) return;
      const part = this.second;
      this.second = null;
      this.begin(part);
      return;
    }
    this.value = this.result();
    this.complete = true;
  }

  /** The first part is complete, the second may not begin yet. */
  private waiting = false;

  test(): boolean {
    if (!this.complete) this.line.advance();
    return this.complete;
  }

  wait(): T {
    this.line.waitFor(this);
    return this.value as T;
  }

  // biome-ignore lint/suspicious/noThenProperty: await is how a pending call is waited for.
  then<A = T, B = never>(
    resolved?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.line
      .turnFor(this)
      .then(() => this.value as T)
      .then(resolved, rejected);
  }
}
