import { OptionError } from "../base/errors.js";
import { checkNonNegative } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { type Batch, Optimizer, type Parameters } from "./optimizer.js";

export interface SgdOptions {
  /** Step size. Default 1e-3. */
  lr: number;
  /** Share of the last velocity that is kept. Default 0. */
  momentum: number;
  /** Share of a new gradient that the velocity leaves out. Default 0. */
  dampening: number;
  /** Added to the gradient as weightDecay * parameter. Default 0. */
  weightDecay: number;
  /** Look ahead along the velocity; needs momentum and no dampening. Default false. */
  nesterov: boolean;
  /** Climb instead of descend. Default false. */
  maximize: boolean;
}

const defaults: SgdOptions = { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false, maximize: false };

function check(o: SgdOptions): void {
  checkNonNegative("SGD lr", o.lr);
  checkNonNegative("SGD momentum", o.momentum);
  checkNonNegative("SGD weightDecay", o.weightDecay);
  checkNonNegative("SGD dampening", o.dampening);
  if (o.nesterov && (o.momentum <= 0 || o.dampening !== 0)) {
    throw new OptionError({
      rule: "Nesterov momentum needs momentum above 0 and dampening 0",
      got: `momentum ${o.momentum}, dampening ${o.dampening}`,
    });
  }
}

/**
 * Stochastic gradient descent: v = momentum v + (1 - dampening) g, p = p - lr v; with Nesterov p = p - lr (g + momentum v).
 * The first velocity is the gradient itself. As torch.optim.SGD (Sutskever et al. 2013).
 */
export class SGD extends Optimizer<SgdOptions> {
  constructor(params: Parameters<SgdOptions>, options?: Partial<SgdOptions>) {
    super("SGD", params, options, defaults, check);
  }

  protected override update(batch: Batch, options: SgdOptions): void {
    const first = batch.states[0]!.tensors.velocity === undefined;
    const velocity = options.momentum > 0 ? this.slots(batch, "velocity") : null;
    kernels.sgd(batch.params, batch.grads, velocity, { ...options, first });
  }
}
