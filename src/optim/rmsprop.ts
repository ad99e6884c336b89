import { checkNonNegative, checkNumber } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { type Batch, Optimizer, type Parameters } from "./optimizer.js";

export interface RmspropOptions {
  /** Step size. Default 0.01. */
  lr: number;
  /** Decay of the running mean of g^2. Default 0.99. */
  alpha: number;
  /** Added to the denominator. Default 1e-8. */
  eps: number;
  /** Added to the gradient as weightDecay * p. Default 0. */
  weightDecay: number;
  /** Share of the last velocity that is kept. Default 0. */
  momentum: number;
  /** Divide by the running variance instead of the running mean square. Default false. */
  centered: boolean;
  /** Climb instead of descend. Default false. */
  maximize: boolean;
}

const defaults: RmspropOptions = {
  ...{ lr: 0.01, alpha: 0.99, eps: 1e-8, weightDecay: 0, momentum: 0, centered: false, maximize: false },
};

function check(o: RmspropOptions): void {
  checkNonNegative("RMSprop lr", o.lr);
  checkNumber("RMSprop alpha", o.alpha, "a number in [0, 1]", (v) => v >= 0 && v <= 1);
  checkNonNegative("RMSprop eps", o.eps);
  checkNonNegative("RMSprop weightDecay", o.weightDecay);
  checkNonNegative("RMSprop momentum", o.momentum);
}

/** Gradient over its running root mean square (Hinton's lecture 6e, 2012; centred: Graves 2013). As torch.optim.RMSprop. */
export class RMSprop extends Optimizer<RmspropOptions> {
  constructor(params: Parameters<RmspropOptions>, options?: Partial<RmspropOptions>) {
    super("RMSprop", params, options, defaults, check);
  }

  protected override update(batch: Batch, options: RmspropOptions): void {
    const square = this.slots(batch, "square");
    const average = options.centered ? this.slots(batch, "average") : null;
    const velocity = options.momentum > 0 ? this.slots(batch, "velocity") : null;
    kernels.rmsprop(batch.params, batch.grads, square, average, velocity, options);
  }
}
