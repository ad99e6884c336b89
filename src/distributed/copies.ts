import { Tensor } from "../autograd/index.js";
import type { Communicator, Numbers } from "../base/communicator.js";
import { kernels } from "../kernels/dispatch.js";
import type { Module } from "../nn/module.js";

// What copies of one model on several ranks need: the same start, and the same gradients.

/** Calls `send` with all values as one array, and writes back what it left there. */
function together(values: readonly Tensor[], all: Numbers, send: (all: Numbers) => void): void {
  let at = 0;
  for (const t of values) {
    all.set(t.storage.view, at);
    at += t.size;
  }
  send(all);
  at = 0;
  for (const t of values) {
    t.assign(all.subarray(at, at + t.size));
    at += t.size;
  }
}

const elements = (values: readonly Tensor[]): number => values.reduce((sum, t) => sum + t.size, 0);

/**
 * Adds up the gradients of all ranks, in place, in one message for each type. Every rank gives the same parameters in the
 * same order; one without a gradient takes part with zeros. Gradients are sums: divide each rank's loss by the number of
 * samples on all ranks together, and the result is the gradient of the mean over them.
 */
export function sumGradients(communicator: Communicator, parameters: Iterable<Tensor>): void {
  const grads = [...parameters].map((p) => {
    if (!p.grad) {
      const none = Tensor.empty(p.shape, p.dtype);
      kernels.fill(none.storage, 0);
      p.grad = none;
    }
    return p.grad!;
  });
  for (const [dtype, make] of [
    ["float32", Float32Array],
    ["float64", Float64Array],
  ] as const) {
    const own = grads.filter((g) => g.dtype === dtype);
    if (own.length > 0) together(own, new make(elements(own)), (all) => communicator.allReduce(all, "sum"));
  }
}

/** Gives every rank's copy of a model the parameters and buffers of rank `root`. */
export function broadcastState(communicator: Communicator, model: Module, root = 0): void {
  const state = Object.values(model.stateDict());
  // float64 holds the numbers of every type as they are.
  together(state, new Float64Array(elements(state)), (all) => communicator.broadcast(all, root));
}
