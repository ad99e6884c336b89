// PuzzleLib's batch normalization: [N, maps, ...], running statistics by a factor that falls from initFactor to minFactor.
import { ones, type Tensor, zeros } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { StateError } from "../base/errors.js";
import {
  checkBoolean,
  checkNonNegative,
  checkNumber,
  checkPositiveInteger,
  checkProbability,
  readOptions,
} from "../base/options.js";
import { constant_, normal_ } from "../nn/init.js";
import { BatchNorm as NNBatchNorm } from "../nn/norm/index.js";
import { type PlacementOptions, placementDefaults } from "../nn/placement.js";
import { checkRank } from "../norm/checks.js";
import { Adapter, untyped } from "./adapter.js";

export interface BatchNormOptions {
  readonly epsilon?: number;
  /** Batch n weighs max(initFactor / n, minFactor) in the running statistics, the old ones the rest. */
  readonly initFactor?: number;
  readonly minFactor?: number;
  /** Standard deviation of the first scales, around 1. */
  readonly sscale?: number;
  /** False: scale and bias are 1 and 0 and stay so. */
  readonly affine?: boolean;
  readonly name?: string | null;
  /** True: parameters and statistics wait for loadStateDict. */
  readonly empty?: boolean;
  /** True: the output takes the input's place in memory; in evaluation only. */
  readonly inplace?: boolean;
  /** Type of the parameters; null (default): that of the first input. */
  readonly dtype?: DType | null;
  readonly device?: PlacementOptions["device"];
}

/** Batch normalization of [N, maps, ...] with `nd` axes behind the maps. */
export class BatchNormND extends Adapter<NNBatchNorm> {
  readonly name: string | null;
  readonly epsilon: number;
  readonly initFactor: number;
  readonly minFactor: number;
  readonly affine: boolean;
  readonly inplace: boolean;
  /** [maps], learned unless `affine` is false. */
  declare scale: Tensor;
  declare bias: Tensor;
  /** [maps], running. */
  declare mean: Tensor;
  declare var: Tensor;
  /** int32, without axes: how many training batches there were. Part of the state. */
  declare numOfProps: Tensor;
  /** What the last call gave. */
  data: Tensor | null = null;
  /** What the last backward gave: the gradient to the input. */
  grad: Tensor | null = null;
  #empty: boolean;

  constructor(
    readonly nd: number,
    readonly maps: number,
    options?: BatchNormOptions,
  ) {
    super("construction");
    const owner = this.constructor.name;
    const o = readOptions(owner, options, {
      epsilon: 1e-5,
      initFactor: 1,
      minFactor: 0.1,
      sscale: 0.01,
      affine: true,
      name: null as string | null,
      empty: false,
      inplace: false,
      ...placementDefaults,
      dtype: null as DType | null,
    });
    checkNumber(`${owner}: nd`, nd, "a whole number of at least 0", (v) => Number.isInteger(v) && v >= 0);
    checkPositiveInteger(`${owner}: maps`, maps);
    this.name = o.name;
    this.epsilon = checkNonNegative(`${owner}: epsilon`, o.epsilon);
    this.initFactor = checkProbability(`${owner}: initFactor`, o.initFactor);
    this.minFactor = checkProbability(`${owner}: minFactor`, o.minFactor);
    this.affine = checkBoolean(`${owner}: affine`, o.affine);
    this.inplace = checkBoolean(`${owner}: inplace`, o.inplace);
    this.#empty = checkBoolean(`${owner}: empty`, o.empty);
    const sscale = checkNonNegative(`${owner}: sscale`, o.sscale);
    const { initFactor, minFactor, epsilon: eps, affine, inplace } = this;
    const momentum = (n: number) => Math.max(initFactor / n, minFactor);
    const norm = new NNBatchNorm(maps, { eps, momentum, affine, inplace, dtype: o.dtype ?? untyped, device: o.device });
    const learned = { scale: "weight", bias: "bias" } as const;
    const running = { mean: "runningMean", var: "runningVar", numOfProps: "numBatchesTracked" } as const;
    this.wrap(norm, affine ? { ...learned, ...running } : running, o.dtype);
    if (!affine) this.#fix();
    if (this.#empty) for (const t of this.#filled()) constant_(t, Number.NaN);
    else if (affine) normal_(this.scale, 1, sscale);
  }

  override forward(x: Tensor): Tensor {
    const norm = this.normFor(x);
    const { nd, training } = this;
    checkRank(this.constructor.name, x.shape, [nd + 2], ["[N, maps", ...Array(nd).fill("...")].join(", ").concat("]"));
    this.#checkLoaded();
    norm.training = training;
    const out = norm.forward(x);
    this.data?.dispose();
    this.data = out.alias();
    return out;
  }

  override backward(grad?: Tensor): Tensor {
    const dx = super.backward(grad);
    this.grad?.dispose();
    this.grad = dx.alias();
    return dx;
  }

  trainMode(): this {
    return this.train();
  }

  evalMode(): this {
    return this.eval();
  }

  override dispose(): void {
    super.dispose();
    this.data?.dispose();
    this.grad?.dispose();
  }

  /** Scale 1 and bias 0: constants, outside the state. */
  #fix(): void {
    const constants = { scale: ones, bias: zeros };
    for (const [name, make] of Object.entries(constants)) {
      Object.defineProperty(this, name, { get: () => make([this.maps], { dtype: this.mean.dtype }) });
    }
  }

  /** What `empty` leaves without values. */
  #filled(): Tensor[] {
    const { scale, bias, mean, var: variance } = this;
    return this.affine ? [scale, bias, mean, variance] : [mean, variance];
  }

  #checkLoaded(): void {
    if (!this.#empty) return;
    if (this.#filled().some((t) => t.storage.view.includes(Number.NaN))) {
      throw new StateError({
        rule: `${this.constructor.name} with empty has no parameters before they are loaded`,
        got: "a call before that",
        fix: "Use loadStateDict first, or make the layer without empty",
      });
    }
    this.#empty = false;
  }
}

/** Batch normalization of [N, size]. */
export class BatchNorm extends BatchNormND {
  constructor(
    readonly size: number,
    options?: BatchNormOptions,
  ) {
    super(0, size, options);
  }
}

/** Batch normalization of [N, maps, L]. */
export class BatchNorm1D extends BatchNormND {
  constructor(numOfMaps: number, options?: BatchNormOptions) {
    super(1, numOfMaps, options);
  }
}

/** Batch normalization of [N, maps, h, w]. */
export class BatchNorm2D extends BatchNormND {
  constructor(numOfMaps: number, options?: BatchNormOptions) {
    super(2, numOfMaps, options);
  }
}

/** Batch normalization of [N, maps, d, h, w]. */
export class BatchNorm3D extends BatchNormND {
  constructor(numOfMaps: number, options?: BatchNormOptions) {
    super(3, numOfMaps, options);
  }
}
