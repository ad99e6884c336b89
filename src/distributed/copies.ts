import type { Tensor } from "../autograd/index.js";
import type { Communicator } from "../base/communicator.js";
import { CommunicationError } from "../base/errors.js";
import { formatShape } from "../base/shape.js";
import type { Module } from "../nn/module.js";
import { intoBuckets } from "./gradient_bucket.js";
import { gatherJson, onAllRanks } from "./together.js";

// What copies of one model on several ranks need: the same start, and the same gradients.

/**
 * Adds up the gradients of all ranks, in place, in one message for each type. Every rank gives the same parameters in the
 * same order; one without a gradient takes part with zeros. Gradients are sums: divide each rank's loss by the number of
 * samples on all ranks together, and the result is the gradient of the mean over them. GradientReducer does it during backward.
 */
export function sumGradients(communicator: Communicator, parameters: Iterable<Tensor>): void {
  const buckets = intoBuckets([...parameters].reverse(), Number.POSITIVE_INFINITY);
  try {
    for (const bucket of buckets) bucket.begin(communicator);
    for (const bucket of buckets) bucket.finish(1);
  } finally {
    for (const bucket of buckets) {
      bucket.abandon();
      bucket.dispose();
    }
  }
}

/**
 * Checks that all ranks have the same tensors: as many, of the same names, types and shapes. Otherwise all of them throw
 * CommunicationError, which says what differs first.
 */
export function checkAlike(communicator: Communicator, tensors: readonly (readonly [string, Tensor])[]): void {
  if (communicator.size === 1) return;
  const own = tensors.map(([name, t]) => `${name}: ${t.dtype} ${formatShape(t.shape)}`);
  const all = gatherJson(communicator, own);
  const longest = Math.max(...all.map((list) => list.length));
  for (let i = 0; i < longest; i++) {
    const said = all.map((list) => list[i] ?? `nothing after ${list.length} tensors`);
    if (said.every((text) => text === said[0])) continue;
    throw onAllRanks(
      new CommunicationError({
        rule: "All ranks hold copies of one model: the same parameters in the same order",
        got: said.map((text, rank) => `${text} on rank ${rank}`).join(", "),
        fix: "Make the model with the same options on every rank",
      }),
    );
  }
}

/** The numbers of tensors on rank `root` in those of all ranks, in one message. */
export function broadcastTensors(communicator: Communicator, tensors: readonly Tensor[], root: number): void {
  // float64 holds the numbers of every type as they are.
  const all = new Float64Array(tensors.reduce((sum, t) => sum + t.size, 0));
  let at = 0;
  if (communicator.rank === root) {
    for (const t of tensors) {
      all.set(t.storage.view, at);
      at += t.size;
    }
  }
  communicator.broadcast(all, root);
  at = 0;
  for (const t of tensors) {
    if (communicator.rank !== root) t.assign(all.subarray(at, at + t.size));
    at += t.size;
  }
}

/**
 * Gives every rank's copy of a model the parameters and buffers of rank `root`.
 * Throws CommunicationError on all ranks where their names, types or shapes differ.
 */
export function broadcastState(communicator: Communicator, model: Module, root = 0): void {
  const state = Object.entries(model.stateDict());
  checkAlike(communicator, state);
  broadcastTensors(
    communicator,
    state.map(([, t]) => t),
    root,
  );
}
