import { recompute, Tensor } from "../autograd/index.js";
import { describeValue, OptionError } from "../base/errors.js";
import { checkNumber } from "../base/options.js";
import { ForwardState } from "./forward_state.js";
import { Module } from "./module.js";
import { Sequential } from "./sequential.js";

/** A tensor or an array of them: what a checkpoint's body returns. */
export type CheckpointResult = Tensor | readonly Tensor[];

/**
 * body(...inputs), keeping of it for backward the inputs alone: when backward comes to it, the body runs a second time
 * and makes the rest again. Costs a forward more, saves what the body's ops would have kept. Same bits as without.
 *
 * Both runs see the same random numbers (of the generator that manualSeed seeds) and the same state of the modules called,
 * and the second leaves both as it found them, so running statistics move once. Where the second run does other ops than
 * the first, or a value it depends on has been written meanwhile, backward throws StateError.
 *
 * The body may use parameters and tensors that are not among the inputs, as long as they are alive at backward; what it
 * makes and does not return is disposed, as in a scope. Works with createGraph and retainGraph (the values then stay),
 * and inside another checkpoint. Without recording the body simply runs.
 *
 * Source: Chen et al. 2016, arXiv:1604.06174; semantics as torch.utils.checkpoint with use_reentrant=False.
 */
export function checkpoint(body: Module, ...inputs: readonly unknown[]): Tensor;
export function checkpoint<I extends readonly unknown[], R extends CheckpointResult>(
  body: (...inputs: I) => R,
  ...inputs: I
): R;
export function checkpoint(
  body: Module | ((...inputs: unknown[]) => CheckpointResult),
  ...inputs: readonly unknown[]
): CheckpointResult {
  if (typeof body !== "function" && !(body instanceof Module)) {
    throw new OptionError({
      rule: "checkpoint takes a module or a function of the inputs first",
      got: describeValue(body),
      fix: "Write checkpoint(body, x)",
    });
  }
  const run = (...values: unknown[]) => checkResult(body instanceof Module ? body.forward(...values) : body(...values));
  return recompute(run, inputs, new ForwardState());
}

function checkResult(result: CheckpointResult): CheckpointResult {
  const all: unknown[] = Array.isArray(result) ? result : [result];
  const strangers = all.filter((t) => !(t instanceof Tensor));
  if (all.length > 0 && strangers.length === 0) return result;
  const promise = typeof (result as { then?: unknown } | undefined)?.then === "function";
  throw new OptionError({
    rule: "The body of a checkpoint returns a tensor or an array of tensors",
    got: promise ? "a promise" : all.length === 0 ? "an empty array" : describeValue(strangers[0]),
    fix: promise ? "Let it be synchronous, and await outside" : "Return the result of the last op",
  });
}

/** A module under `checkpoint`, whenever it is called. State names are those of the module without the wrapper. */
export class Checkpoint extends Module {
  constructor(readonly module: Module) {
    super();
    if (module instanceof Module) return;
    throw new OptionError({ rule: "Checkpoint takes a module", got: describeValue(module) });
  }

  override namedModules(prefix = ""): [string, Module][] {
    return [[prefix, this], ...this.module.namedModules(prefix)];
  }

  override forward(...inputs: unknown[]): Tensor {
    return checkpoint(this.module, ...inputs);
  }
}

/**
 * A Sequential in `segments` parts of as equal a number of layers as can be, each under a checkpoint but the last, whose
 * values backward needs at once. With about as many parts as the square root of the number of layers, both what is kept
 * between the parts and what one part keeps grow like that root.
 */
export function checkpointSequential(model: Sequential, segments: number, x: Tensor): Tensor {
  if (!(model instanceof Sequential)) {
    throw new OptionError({ rule: "checkpointSequential takes a Sequential", got: describeValue(model) });
  }
  checkNumber(
    "checkpointSequential: segments",
    segments,
    `a whole number from 1 to ${model.length}, the number of layers`,
    (v) => Number.isInteger(v) && v >= 1 && v <= model.length,
  );
  const layers = [...model];
  const edge = (k: number) => Math.floor((k * layers.length) / segments);
  let current = x;
  for (let k = 0; k < segments; k++) {
    const part = new Sequential(...layers.slice(edge(k), edge(k + 1)));
    const next = k < segments - 1 ? checkpoint(part, current) : part.forward(current);
    if (current !== x && current !== next && !current.owned) current.dispose();
    current = next;
  }
  return current;
}
