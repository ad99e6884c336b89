import { checkNonNegative, checkNumber } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { type Batch, Optimizer, type Parameters } from "./optimizer.js";

export interface AdamOptions {
  /** Step size. Default 1e-3. */
  lr: number;
  /** Decay of the running means of g and g^2. Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Added to the denominator. Default 1e-8. */
  eps: number;
  /** Adam: added to the gradient as weightDecay * p (default 0). AdamW: p shrinks by lr * weightDecay (default 0.01). */
  weightDecay: number;
  /** Climb instead of descend. Default false. */
  maximize: boolean;
}

const defaults: AdamOptions = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, maximize: false };

const inUnit = (v: number): boolean => v >= 0 && v < 1;

function check(o: AdamOptions): void {
  checkNonNegative("Adam lr", o.lr);
  checkNumber("Adam betas[0]", o.betas[0], "a number in [0, 1)", inUnit);
  checkNumber("Adam betas[1]", o.betas[1], "a number in [0, 1)", inUnit);
  checkNonNegative("Adam eps", o.eps);
  checkNonNegative("Adam weightDecay", o.weightDecay);
}

/** Adaptive moments with bias correction (Kingma & Ba 2015, arXiv:1412.6980). As torch.optim.Adam. */
export class Adam extends Optimizer<AdamOptions> {
  /** Whether weight decay shrinks the parameter directly instead of entering the gradient. */
  protected readonly decoupled: boolean = false;

  constructor(params: Parameters<AdamOptions>, options?: Partial<AdamOptions>, base: AdamOptions = defaults) {
    super("Adam", params, options, base, check);
  }

  protected override update(batch: Batch, options: AdamOptions): void {
    const [beta1, beta2] = options.betas;
    // beta^t as a running product: Math.pow differs in the last bit between engines. Equal throughout the batch.
    const { numbers } = batch.states[0]!;
    const power1 = (numbers.power1 ?? 1) * beta1;
    const power2 = (numbers.power2 ?? 1) * beta2;
    for (const state of batch.states) {
      state.numbers.power1 = power1;
      state.numbers.power2 = power2;
    }
    const m = this.slots(batch, "m");
    const v = this.slots(batch, "v");
    const { lr, eps, weightDecay, maximize } = options;
    kernels.adam(batch.params, batch.grads, m, v, {
      ...{ lr, beta1, beta2, eps, weightDecay, maximize, decoupled: this.decoupled },
      correction1: 1 - power1,
      correction2: 1 - power2,
    });
  }
}

/** Adam whose weight decay is decoupled from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101). */
export class AdamW extends Adam {
  protected override readonly decoupled = true;

  constructor(params: Parameters<AdamOptions>, options?: Partial<AdamOptions>) {
    super(params, options, { ...defaults, weightDecay: 0.01 });
  }
}
