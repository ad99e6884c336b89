// npdl (oujago/NumpyDL): BatchNormal as its page describes it, or with its own numbers (asWritten).
import { Tensor, tensor } from "../autograd/index.js";
import { batchNormByDeviation } from "../autograd/ops/batch_norm_by_deviation.js";
import { ShapeError } from "../base/errors.js";
import { checkBoolean, checkNonNegative, checkProbability, readOptions } from "../base/options.js";
import { formatShape, normalizeAxis } from "../base/shape.js";
import { normal_, ones_, orthogonal_, uniform_, zeros_ } from "../nn/init.js";
import type { Parameter } from "../nn/module.js";
import { BatchNorm as NNBatchNorm } from "../nn/norm/index.js";
import { checkAxis } from "../nn/norm/running_norm.js";
import { checkFeatures } from "../norm/checks.js";
import { Adapter, untyped } from "./adapter.js";
import { type Initializer, type Named, readInitializer } from "./initializer.js";
import { lengthAt } from "./lazy.js";

export interface BatchNormalOptions {
  readonly epsilon?: number;
  /** Weight of the old running statistics, which evaluation uses. */
  readonly momentum?: number;
  /** 0: statistics for each feature, over the batch alone. Another axis: for each index of it, over all others. */
  readonly axis?: number;
  readonly betaInit?: Initializer;
  readonly gammaInit?: Initializer;
  /** True: the original's own arithmetic, which takes the standard deviation for the variance. */
  readonly asWritten?: boolean;
}

/** A layer before this one, or anything that knows its output's shape, null for the batch. */
export interface Previous {
  readonly outShape: readonly (number | null)[];
}

/** npdl gives a vector of n the fans floor(sqrt(n)) and floor(sqrt(n)). */
const fan = (t: Tensor): number => Math.floor(Math.sqrt(t.size));
const within = (t: Tensor, bound: number) => uniform_(t, -bound, bound);

const initializers: Named = {
  zero: zeros_,
  one: ones_,
  uniform: (t) => within(t, 0.05),
  normal: (t) => normal_(t, 0, 0.01),
  lecunUniform: (t) => within(t, Math.sqrt(3 / fan(t))),
  glorotUniform: (t) => within(t, Math.sqrt(3 / fan(t))),
  glorotNormal: (t) => normal_(t, 0, Math.sqrt(1 / fan(t))),
  heNormal: (t) => normal_(t, 0, Math.sqrt(2 / fan(t))),
  heUniform: (t) => within(t, Math.sqrt(6 / fan(t))),
  orthogonal: (t) => t.assign(orthogonal_(tensor(new Float64Array(t.size), { shape: [t.size, 1] }))),
};

export class BatchNormal extends Adapter<NNBatchNorm> {
  readonly epsilon: number;
  readonly momentum: number;
  readonly axis: number;
  readonly asWritten: boolean;
  /** Axis 0: as long as the last axis; else as long as `axis`. */
  declare beta: Parameter;
  declare gamma: Parameter;
  /** For each feature with axis 0, else for each index of `axis`; not there with asWritten, which has none. */
  declare runningMean: Tensor;
  declare runningVar: Tensor;
  /** The output's shape, which is the input's. */
  outShape: readonly (number | null)[] | null = null;
  readonly #betaInit: (t: Tensor) => void;
  readonly #gammaInit: (t: Tensor) => void;

  constructor(options?: BatchNormalOptions) {
    super("connectTo(previousLayer)");
    const o = readOptions("BatchNormal", options, {
      epsilon: 1e-6,
      momentum: 0.9,
      axis: 0,
      betaInit: "zero" as Initializer,
      gammaInit: "one" as Initializer,
      asWritten: false,
    });
    this.epsilon = checkNonNegative("BatchNormal: epsilon", o.epsilon);
    this.momentum = checkProbability("BatchNormal: momentum", o.momentum);
    this.axis = checkAxis("BatchNormal", o.axis);
    this.asWritten = checkBoolean("BatchNormal: asWritten", o.asWritten);
    this.#betaInit = readInitializer("BatchNormal: betaInit", o.betaInit, initializers);
    this.#gammaInit = readInitializer("BatchNormal: gammaInit", o.gammaInit, initializers);
  }

  /** Makes beta and gamma for what comes in: `previous.outShape`, with null for the batch. */
  connectTo(previous: Previous): void {
    const shape: unknown = (previous as Previous | null | undefined)?.outShape;
    if (!Array.isArray(shape) || shape.length < 2) {
      throw new ShapeError({
        rule: "BatchNormal.connectTo takes a layer with outShape, [null, ...features]",
        got: Array.isArray(shape) ? formatShape(shape) : String(shape),
      });
    }
    const axis = this.asWritten ? 0 : normalizeAxis(this.axis, shape.length, "BatchNormal: axis");
    const length = (a: number) => lengthAt("BatchNormal", shape, a);
    const eps = this.epsilon;
    const common = { eps, momentum: 1 - this.momentum, runningVariance: "biased", dtype: untyped } as const;
    const norm =
      axis === 0
        ? new NNBatchNorm(
            shape.slice(1).map((_, i) => length(i + 1)),
            { ...common, affineShape: shape.slice(-1), trackRunningStats: !this.asWritten },
          )
        : new NNBatchNorm(length(axis), { ...common, axis });
    const running = { runningMean: "runningMean", runningVar: "runningVar" } as const;
    this.wrap(norm, { beta: "bias", gamma: "weight", ...(this.asWritten ? {} : running) }, null);
    this.#betaInit(this.beta);
    this.#gammaInit(this.gamma);
    this.outShape = [...shape];
  }

  /** `training` is the layer's own mode unless given. The first input's type becomes that of the parameters. */
  override forward(x: Tensor, training: boolean = this.training): Tensor {
    const norm = this.normFor(x);
    const { asWritten, epsilon: eps, gamma, beta } = this;
    norm.training = checkBoolean("BatchNormal.forward: training", training);
    if (!asWritten) return norm.forward(x);
    checkFeatures("BatchNormal", x.shape, norm.featureShape);
    return batchNormByDeviation({ x, weight: gamma, bias: beta }, { eps });
  }

  /** Replaces the gradients of beta and gamma, as the original does. */
  override backward(gradOutput?: Tensor): Tensor {
    if (this.asWritten && gradOutput instanceof Tensor && gradOutput.rank !== 2) {
      throw new ShapeError({
        rule: "BatchNormal.backward with asWritten takes a matrix [N, D], as the original does",
        got: formatShape(gradOutput.shape),
        fix: "Leave asWritten out: then any rank works",
      });
    }
    this.zeroGrad();
    return super.backward(gradOutput);
  }

  get dbeta(): Tensor | null {
    return this.params[0].grad;
  }

  get dgamma(): Tensor | null {
    return this.params[1].grad;
  }

  /** [beta, gamma]. */
  get params(): [Parameter, Parameter] {
    const { norm: _, beta, gamma } = this;
    return [beta, gamma];
  }

  /** [dbeta, dgamma] of the last backward. */
  get grads(): [Tensor | null, Tensor | null] {
    return [this.dbeta, this.dgamma];
  }

  /** The original's name for `grads`. */
  get grades(): [Tensor | null, Tensor | null] {
    return this.grads;
  }
}
