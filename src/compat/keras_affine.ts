import type { Tensor } from "../autograd/index.js";
import type { NumberArray } from "../base/dtype.js";
import { ShapeError } from "../base/errors.js";
import { checkBoolean, checkNonNegative } from "../base/options.js";
import { ones_, zeros_ } from "../nn/init.js";
import type { Module, Parameter } from "../nn/module.js";
import { leaveOut, type WithAffine } from "./adapter.js";
import { type Initializer, type Named, readInitializer } from "./initializer.js";
import { Lazy, type LazyOptions, lazyDefaults, readTraining } from "./lazy.js";

/** Keras's initialisers that start a normalization: names, or functions of the shape. */
export const initializers: Named = { zeros: zeros_, ones: ones_ };

export interface CallOptions {
  readonly training?: boolean;
}

export interface AffineOptions extends LazyOptions {
  readonly epsilon?: number;
  /** Whether there is a beta. */
  readonly center?: boolean;
  /** Whether there is a gamma. */
  readonly scale?: boolean;
  readonly betaInitializer?: Initializer;
  readonly gammaInitializer?: Initializer;
}

export const affineDefaults = {
  epsilon: 1e-3,
  center: true,
  scale: true,
  betaInitializer: "zeros" as Initializer,
  gammaInitializer: "ones" as Initializer,
  ...lazyDefaults,
};

/** What Keras's layers have in common: weights in an order, and `call`. */
export abstract class KerasLayer<N extends Module> extends Lazy<N> {
  /** The same for all modes, unless a layer says otherwise. */
  override forward(x: Tensor, options?: CallOptions): Tensor {
    const training = readTraining(`${this.constructor.name}.call`, options, this.training);
    return this.normFor(x, training).forward(x);
  }

  /** Keras's name for forward. */
  call(x: Tensor, options?: CallOptions): Tensor {
    return this.forward(x, options);
  }

  /** The layer's tensors in Keras's order: gamma, beta, then statistics. */
  get weights(): Tensor[] {
    return [...this.parameters(), ...this.buffers()];
  }

  getWeights(): NumberArray[] {
    return this.weights.map((t) => t.dataSync());
  }

  /** Copies numbers in, in the order of `getWeights`. */
  setWeights(values: readonly (Tensor | ArrayLike<number>)[]): void {
    const { norm: _, weights } = this;
    if (values.length !== weights.length) {
      throw new ShapeError({
        rule: `This ${this.constructor.name} has ${weights.length} weights`,
        got: String(values.length),
        fix: "Give gamma, beta, movingMean, movingVariance, without those that the layer lacks",
      });
    }
    for (const [i, t] of weights.entries()) t.assign(values[i]!);
  }
}

/** Layers with gamma and beta. */
export abstract class KerasAffine<N extends WithAffine & { bias: Parameter | null }> extends KerasLayer<N> {
  /** null without `scale`. */
  declare gamma: Parameter | null;
  /** null without `center`. */
  declare beta: Parameter | null;
  readonly epsilon: number;
  readonly center: boolean;
  readonly scale: boolean;
  readonly #gamma: (t: Tensor) => void;
  readonly #beta: (t: Tensor) => void;

  constructor(owner: string, o: Required<AffineOptions>) {
    super(o);
    this.epsilon = checkNonNegative(`${owner}: epsilon`, o.epsilon);
    this.center = checkBoolean(`${owner}: center`, o.center);
    this.scale = checkBoolean(`${owner}: scale`, o.scale);
    this.#gamma = readInitializer(`${owner}: gammaInitializer`, o.gammaInitializer, initializers);
    this.#beta = readInitializer(`${owner}: betaInitializer`, o.betaInitializer, initializers);
  }

  protected start(norm: N, statistics: Readonly<Record<string, keyof N & string>> = {}): void {
    leaveOut(norm, { weight: !this.scale, bias: !this.center });
    this.wrap(norm, { gamma: "weight", beta: "bias", ...statistics }, this.dtype);
    if (this.gamma) this.#gamma(this.gamma);
    if (this.beta) this.#beta(this.beta);
  }
}
