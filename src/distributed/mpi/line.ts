import { CommunicationError } from "../../base/errors.js";
import type { Pending } from "../../base/pending.js";
import { describeCall, type Header } from "../calls.js";
import type { Staging } from "./staging.js";

/** What a call consists of. */
export interface Steps<T> {
  readonly header: Header;
  /** Whether all ranks give as many elements. */
  readonly sameLength: boolean;
  readonly staging: Staging;
  /** Begins the first part, which the library does by itself. */
  first(): void;
  /** Begins the second, where there is one. */
  second?(): void;
  result(): T;
}

/** What a line asks of those around it. */
export interface Surroundings {
  /** Whether the request at this place is complete. */
  test(request: number): boolean;
  /** Lets another process have the core, if one waits for it. */
  yieldCore(): void;
  /** Throws where ranks are known to stay away from this group's call with this number. */
  checkRanks(call: number): void;
  /** Looks after the launcher, now and then. */
  checkLauncher(): void;
}

/** Questions without a pause: what comes in some microseconds is met at once. */
const SPINS = 20;
/** Milliseconds of asking, then letting others have the core, and asking again. */
const YIELD_MS = 1;
const NAP_MS = 0.05;
/** After this many milliseconds a wait begins to look for what may have gone wrong, as often. */
const LOOK_MS = 100;
/** Milliseconds after which ranks that have left are looked for. */
const LONG_MS = 1000;
/** Calls between two looks at the launcher, for a program that neither waits long nor returns to the event loop. */
const CALLS_A_LOOK = 64;

const nowhere = new Int32Array(new SharedArrayBuffer(4));
export const nap = (milliseconds: number): void => void Atomics.wait(nowhere, 0, 0, milliseconds);

/**
 * The calls of one communicator that are under way, oldest first. A call has one or two parts. First parts are begun with
 * the call; a second one, on a communicator of its own, only when those of all earlier calls have been: so that every rank begins
 * all parts in the same order, whichever of its requests happens to be complete first.
 */
export class Line {
  /** Calls begun so far. */
  begun = 0;
  private readonly calls: Call<unknown>[] = [];
  private broken: unknown = null;
  private advancing = false;

  constructor(
    private readonly around: Surroundings,
    /** Seconds that a call may take. */
    private readonly timeout: number,
  ) {}

  /** Whether no call is under way. */
  get idle(): boolean {
    return this.calls.length === 0;
  }

  /** Number of the oldest call under way. */
  get oldest(): number {
    return this.calls[0]!.number;
  }

  begin<T>(steps: Steps<T>): Pending<T> {
    if (this.broken) throw this.broken;
    const call = new Call(this, steps, this.begun++);
    this.calls.push(call);
    try {
      steps.first();
    } catch (error) {
      this.break(error);
      throw error;
    }
    if (this.begun % CALLS_A_LOOK === 0) this.around.checkLauncher();
    return call;
  }

  /** Moves all calls on as far as they go at once. */
  advance(): void {
    if (this.broken) throw this.broken;
    // The kernel that adds up parts pauses for whoever asks meanwhile, in the middle of a call.
    if (this.advancing) return;
    this.advancing = true;
    const { calls, around } = this;
    try {
      let inOrder = true;
      for (const call of calls) {
        call.advance(around, inOrder);
        inOrder &&= call.begun;
      }
    } catch (error) {
      this.break(error);
      throw error;
    } finally {
      this.advancing = false;
    }
    while (calls.length > 0 && calls[0]!.complete) calls.shift();
  }

  /** Ends the group for this rank: all calls throw, now and later. */
  break(error: unknown): void {
    this.broken ??= error;
  }

  /** Returns once `call` is complete. MPI's own waiting is not used, since it never ends where a rank stays away. */
  waitFor(call: Call<unknown>): void {
    let looked = 0;
    let began = 0;
    for (let turn = 0; !call.complete; turn++) {
      this.advance();
      if (call.complete) return;
      if (turn < SPINS) continue;
      const now = performance.now();
      if (began === 0) looked = began = now;
      // Others may want this rank's core: with more ranks than cores, whoever asks keeps the one that is asked from answering.
      if (now - began < YIELD_MS) this.around.yieldCore();
      else nap(NAP_MS);
      if (now - looked < LOOK_MS) continue;
      looked = now;
      this.look(call, now - began);
    }
  }

  /** The same between turns of the event loop. */
  async turnFor(call: Call<unknown>): Promise<void> {
    const began = performance.now();
    let looked = began;
    while (!call.complete) {
      this.advance();
      if (call.complete) return;
      const now = performance.now();
      if (now - looked >= LOOK_MS) {
        looked = now;
        this.look(call, now - began);
      }
      // A timer of a millisecond leaves the processor to others, but is late for short calls.
      const soon = now - began < 10;
      await new Promise<void>((resolve) => (soon ? setImmediate(resolve) : setTimeout(resolve, 1)));
    }
  }

  private look(call: Call<unknown>, waited: number): void {
    this.around.checkLauncher();
    try {
      if (waited >= LONG_MS) this.around.checkRanks(call.number);
      if (waited < this.timeout * 1000) return;
      throw new CommunicationError({
        rule: `All ranks of a group make the same calls, each within ${this.timeout} seconds of the others`,
        got: `${call.what}, in which not all ranks took part`,
        fix: "Look for a rank that failed, or that skipped a layer or a batch; where ranks do take that long, set timeout",
      });
    } catch (error) {
      this.break(error);
      throw error;
    }
  }
}

class Call<T> implements Pending<T> {
  complete = false;
  private value: T | undefined;
  private second: (() => void) | undefined;
  /** Whether the part that was begun last is complete. */
  private arrived = false;

  constructor(
    private readonly line: Line,
    private readonly steps: Steps<T>,
    /** Among the calls of its group, from 0. */
    readonly number: number,
  ) {
    this.second = steps.second;
  }

  get what(): string {
    return describeCall(this.steps.header, this.steps.sameLength);
  }

  /** Whether all parts are begun. */
  get begun(): boolean {
    return this.second === undefined;
  }

  advance(around: Surroundings, mayBegin: boolean): void {
    const { steps } = this;
    if (this.complete) return;
    this.arrived ||= around.test(steps.staging.request);
    if (!this.arrived) return;
    if (this.second) {
      if (!mayBegin) return;
      this.second = undefined;
      this.arrived = false;
      steps.second!();
      return;
    }
    this.value = steps.result();
    this.complete = true;
    steps.staging.free();
  }

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
