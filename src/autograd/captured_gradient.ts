import { StateError } from "../base/errors.js";
import { currentTape } from "../kernels/tape.js";
import { own } from "../memory/scope.js";
import type { Vertex } from "./graph.js";
import { Tensor } from "./tensor.js";

/**
 * A leaf has just got its first gradient. Where that is captured, the replayed kernels write to the memory of this gradient,
 * so that the leaf must have it again by then, whatever has been done to `.grad` since.
 */
export function gradientStays(leaf: Vertex): void {
  const tape = currentTape();
  if (!tape) return;
  const { storage, shape } = leaf.grad!;
  const cleared = tape.cleared.has(leaf);
  tape.hold(storage);
  tape.push(() => {
    const now = leaf.grad;
    if (now && !now.disposed) {
      if (!cleared)
        throw otherGradients("gradients that backward found empty", "some that are not: zeroGrad was left out");
      storage.version++;
      if (now.storage === storage) return;
      now.dispose();
    }
    leaf.grad = own(new Tensor(storage.retain(), shape));
  });
}

/** A captured backward pass is about to add to a leaf's gradient, which must be the same one each time. */
export function gradientIsThere(leaf: Vertex): void {
  const tape = currentTape();
  if (!tape) return;
  const { storage } = leaf.grad!;
  if (!storage.pooled) tape.hold(storage);
  tape.push(() => {
    const now = leaf.grad;
    if (!now || now.disposed || now.storage !== storage) {
      throw otherGradients("gradients to add to", "others: they were cleared or made anew outside");
    }
  });
}

const otherGradients = (had: string, got: string): StateError =>
  new StateError({
    rule: `This function was captured with ${had}`,
    got,
    fix: "Put zeroGrad into the captured function, or call it outside before each call",
  });
