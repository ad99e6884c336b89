import { isFloating } from "../../base/dtype.js";
import { DTypeError } from "../../base/errors.js";
import { checkProbability } from "../../base/options.js";
import { globalRandom, type Random } from "../../base/random.js";
import { kernels } from "../../kernels/dispatch.js";
import { everyTime } from "../../kernels/tape.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { broadcastPlan } from "./elementwise.js";

interface Mask {
  readonly p: number;
  /** What decides the mask; a captured step draws it anew each time, and its backward finds it here. */
  readonly key: { value: number };
}

/**
 * y = x * mask, mask being 1 / (1 - p) with probability 1 - p and 0 else, so that the expected y is x.
 *
 * Shapes: any. Saves nothing: the mask is a function of `key` and the position, so backward makes it again, which
 * costs less than keeping as many numbers as x has. Backward is the same op, of dy.
 * Source: Srivastava et al. 2014, JMLR 15:1929.
 */
const dropoutOp: Op<{ x: Tensor }, Mask, undefined> = defineOp<{ x: Tensor }, Mask>({
  name: "dropout",
  forward({ x }, { p, key }) {
    const out = Tensor.empty(x.shape, x.dtype);
    // 1 / (1 - 1) is infinite: with p = 1 nothing is kept, and the scale does not matter.
    const mask = out.storage;
    everyTime(() => kernels.dropoutMask(mask, 1 - p, p === 1 ? 0 : 1 / (1 - p), key.value));
    kernels.binary("mul", x.storage, out.storage, out.storage, broadcastPlan(x.shape, x.shape, x.shape));
    return { out };
  },
  backward: (dy, _saved, options) => ({ x: () => dropoutOp({ x: dy }, options) }),
  twiceDifferentiable: true,
});

/**
 * Zeroes elements with probability p and scales the rest by 1 / (1 - p). The mask is decided by the next bits of `random`.
 * Throws OptionError unless p is in [0, 1], DTypeError for int32.
 */
export function dropout(x: Tensor, p: number, random: Random = globalRandom): Tensor {
  checkProbability("dropout p", p);
  if (!isFloating(x.dtype)) throw new DTypeError({ rule: "dropout scales float32 or float64", got: x.dtype });
  if (p === 0) return x;
  // 53 bits: with 32, two of 65,000 steps would share a mask.
  const key = { value: 0 };
  everyTime(() => {
    key.value = random.bits() + (random.bits() >>> 11) * 2 ** 32;
  });
  return dropoutOp({ x }, { p, key });
}
