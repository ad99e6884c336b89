import { DTypeError, describeValue, OptionError, StateError } from "../base/errors.js";
import { checkPositiveInteger, readOptions } from "../base/options.js";
import { currentTape, Tape } from "../kernels/tape.js";
import { heap } from "../memory/heap.js";
import { own, scope } from "../memory/scope.js";
import { cannotCapture } from "../memory/storage.js";
import { isRecording } from "./graph.js";
import { probe } from "./probe.js";
import { Tensor } from "./tensor.js";

export interface CaptureOptions {
  /** How many kinds of call (shapes and types of the inputs) stay captured; the one unused for longest goes. Default 8. */
  readonly keep?: number;
}

/** What a captured function returns: tensors, alone or in arrays and plain objects, or nothing. */
export type CapturedResult =
  | Tensor
  | readonly CapturedResult[]
  | { readonly [name: string]: CapturedResult }
  | null
  // biome-ignore lint/suspicious/noConfusingVoidType: a function without a return is of type void
  | void;

export interface Captured<A extends readonly Tensor[], R> {
  (...inputs: A): R;
  /** Gives back the memory of all captured calls; the next call begins anew. */
  dispose(): void;
}

/**
 * A function of tensors that runs once or twice and is then repeated without being run: its kernel calls are replayed at
 * the same places in memory, so that a call makes no tensors, writes no tape and plans nothing. Results are the same bits.
 *
 * The first call with inputs of some shapes and types runs the function as it is, the second one captures it, and later
 * ones replay. So the function must do the same each time: what it closes over (layers, `training`, JavaScript
 * numbers) is as it was when it was captured. Parameters, buffers, gradients, random numbers, learning rates and running
 * statistics are those of the moment, since steps of optimizers, dropout and running averages run each time.
 * Results are new tensors without history. docs/capture.md has the rules in full.
 *
 * Throws StateError where the function reads or writes numbers itself (item, data, assign), OptionError where it returns
 * something other than tensors, DTypeError where an input is no tensor.
 */
export function capture<A extends readonly Tensor[], R extends CapturedResult>(
  body: (...inputs: A) => R,
  options?: CaptureOptions,
): Captured<A, R> {
  const o = readOptions("capture", options, { keep: 8 });
  const keep = checkPositiveInteger("capture: keep", o.keep);
  const calls: Call<A, R>[] = [];
  const run = (...inputs: A): R => {
    checkInputs(inputs);
    // A capture inside another is part of it, and a profile wants to see the ops.
    if (currentTape() !== null || probe !== null) return body(...inputs);
    let at = 0;
    while (at < calls.length && !calls[at]!.takes(inputs)) at++;
    const call = calls[at] ?? new Call(body, inputs);
    for (let i = Math.min(at, calls.length); i > 0; i--) calls[i] = calls[i - 1]!;
    calls[0] = call;
    if (calls.length > keep) calls.pop()!.dispose();
    return call.run(inputs);
  };
  const dispose = () => {
    for (const call of calls.splice(0)) call.dispose();
  };
  return Object.assign(run, { dispose });
}

function checkInputs(inputs: readonly unknown[]): void {
  for (const input of inputs) {
    if (!(input instanceof Tensor)) {
      throw new DTypeError({
        rule: "A captured function takes tensors",
        got: describeValue(input),
        fix: "Close over what stays the same, and pass numbers that change as tensors",
      });
    }
    if (input.device !== "cpu") throw cannotCapture(input.device);
    if (!input.requiresGrad) continue;
    throw new StateError({
      rule: "Inputs of a captured function are data, copied to a place of their own",
      got: "one that requires a gradient",
      fix: "Close over parameters; detach() what is data",
    });
  }
}

/** Tapes whose function was forgotten without dispose. */
const lost = new FinalizationRegistry<Tape>((tape) => tape.dispose());

/** The function with inputs of one list of shapes and types. */
class Call<A extends readonly Tensor[], R extends CapturedResult> {
  private readonly like: readonly { readonly shape: readonly number[]; readonly dtype: string }[];
  private readonly recording = isRecording();
  /** What the first run needed; -1 before it. */
  private bytes = -1;
  private tape: Tape | null = null;
  private inputs: Tensor[] = [];
  private results: R | null = null;

  constructor(
    private readonly body: (...inputs: A) => R,
    inputs: A,
  ) {
    this.like = inputs.map(({ shape, dtype }) => ({ shape, dtype }));
  }

  takes(inputs: A): boolean {
    if (inputs.length !== this.like.length || isRecording() !== this.recording) return false;
    for (let i = 0; i < inputs.length; i++) {
      const [mine, theirs] = [this.like[i]!, inputs[i]!];
      if (mine.dtype !== theirs.dtype || mine.shape.length !== theirs.shape.length) return false;
      for (let j = 0; j < mine.shape.length; j++) if (mine.shape[j] !== theirs.shape[j]) return false;
    }
    return true;
  }

  run(inputs: A): R {
    if (this.bytes < 0) {
      const { result, bytes } = heap.measure(() => scope(() => mapTensors(this.body(...inputs), (t) => t.detach())));
      this.bytes = bytes;
      return result;
    }
    if (this.tape === null) this.capture(inputs);
    else {
      for (let i = 0; i < inputs.length; i++) heap.copy(inputs[i]!.storage, this.inputs[i]!.storage);
      // Whatever the parts that run each time make goes with this scope.
      scope(() => this.tape!.play());
    }
    return mapTensors(this.results as R, copyOf);
  }

  dispose(): void {
    const { tape } = this;
    if (tape === null) return;
    lost.unregister(tape);
    this.tape = null;
    for (const t of this.inputs) t.dispose();
    mapTensors(this.results as R, (t) => {
      t.dispose();
      return t;
    });
    tape.dispose();
  }

  private capture(inputs: A): void {
    const fixed = inputs.map((input) => own(copyOf(input)));
    const tape = new Tape(heap.newPool(this.bytes));
    try {
      this.results = tape.record(() =>
        scope(() => mapTensors(this.body(...(fixed as unknown as A)), (t) => own(t.detach()))),
      );
    } catch (error) {
      for (const t of fixed) t.dispose();
      tape.dispose();
      throw error;
    }
    this.inputs = fixed;
    this.tape = tape;
    lost.register(this, tape, tape);
  }
}

function copyOf(t: Tensor): Tensor {
  const copy = t.emptyLike();
  heap.copy(t.storage, copy.storage);
  return copy;
}

/** The same structure with each tensor replaced. */
function mapTensors<R extends CapturedResult>(result: R, replace: (t: Tensor) => Tensor): R {
  if (result instanceof Tensor) return replace(result) as R;
  if (result === null || result === undefined) return result;
  if (Array.isArray(result)) return result.map((item) => mapTensors(item, replace)) as unknown as R;
  if (typeof result === "object" && Object.getPrototypeOf(result) === Object.prototype) {
    const entries = Object.entries(result).map(([name, item]) => [name, mapTensors(item as CapturedResult, replace)]);
    return Object.fromEntries(entries) as R;
  }
  const async = typeof (result as { then?: unknown }).then === "function";
  throw new (async ? StateError : OptionError)({
    rule: async ? "capture() takes a synchronous function" : "A captured function returns tensors",
    got: async ? "a promise" : describeValue(result),
    fix: async
      ? "Capture the synchronous part, and await outside"
      : "Return the tensor that the value was made from; a value would stay what it was when it was captured",
  });
}
