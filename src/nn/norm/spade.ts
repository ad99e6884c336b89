import type { Tensor } from "../../autograd/index.js";
import { nearest } from "../../autograd/ops/nearest.js";
import type { Communicator } from "../../base/communicator.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { checkChoice, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import type { Momentum } from "../../norm/momentum.js";
import { ReLU } from "../activation.js";
import { Conv2d } from "../conv.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { Sequential } from "../sequential.js";
import { BatchNorm2d } from "./batch_norm.js";
import { checkConditionTensor } from "./condition.js";
import { InstanceNorm2d } from "./instance_norm.js";
import { SyncBatchNorm } from "./sync_batch_norm.js";

export interface SPADEOptions extends PlacementOptions {
  /** Channels of the convolution that gamma and beta share. Default 128. */
  readonly hidden?: number;
  /** Odd. Default 3. */
  readonly kernelSize?: number;
  /** The normalization without affine: "batch" (default), "instance", "sync", or any module that keeps x's shape. */
  readonly base?: "batch" | "instance" | "sync" | Module;
  /** Of base "sync": the ranks that share statistics. */
  readonly communicator?: Communicator;
  readonly eps?: number;
  /** Of batch normalization: weight of the new batch in running statistics. */
  readonly momentum?: Momentum;
}

/**
 * Spatially adaptive denormalization: y = (1 + gamma(m)) xhat + beta(m), where gamma and beta are images that two
 * convolutions make of a map m, resized to x by its nearest elements.
 *
 * Shapes: x [N, C, H, W]; the map [N, conditionChannels, h, w] of any size.
 * State:  param_free_norm.*, mlp_shared.0.weight and bias, mlp_gamma.weight and bias, mlp_beta.weight and bias.
 */
export class SPADE extends Module {
  readonly paramFreeNorm: Module;
  readonly mlpShared: Sequential;
  readonly mlpGamma: Conv2d;
  readonly mlpBeta: Conv2d;

  constructor(
    readonly numFeatures: number,
    readonly conditionChannels: number,
    options?: SPADEOptions,
  ) {
    super();
    const o = readOptions("SPADE", options, {
      hidden: 128,
      kernelSize: 3,
      base: "batch" as NonNullable<SPADEOptions["base"]>,
      communicator: undefined as Communicator | undefined,
      eps: family.SPADE.eps as number,
      momentum: family.SPADE.momentum as Momentum,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    checkPositiveInteger("SPADE: numFeatures", numFeatures);
    checkPositiveInteger("SPADE: conditionChannels", conditionChannels);
    checkPositiveInteger("SPADE: hidden", o.hidden);
    checkPositiveInteger("SPADE: kernelSize", o.kernelSize);
    if (o.kernelSize % 2 === 0) {
      throw new OptionError({
        rule: "SPADE: kernelSize must be odd, so that gamma and beta are as large as x",
        got: String(o.kernelSize),
      });
    }
    if (o.communicator && o.base !== "sync") {
      throw new OptionError({
        rule: "SPADE takes a communicator with base sync",
        got: `base ${typeof o.base === "string" ? o.base : "of its own"}`,
        fix: 'Pass { base: "sync", communicator }',
      });
    }
    const { eps, momentum, communicator } = o;
    this.paramFreeNorm = baseOf(o.base, numFeatures, { eps, momentum, communicator, ...placed });
    const conv = (from: number, to: number) =>
      new Conv2d(from, to, o.kernelSize, { padding: (o.kernelSize - 1) / 2, ...placed });
    this.mlpShared = new Sequential(conv(conditionChannels, o.hidden), new ReLU());
    this.mlpGamma = conv(o.hidden, numFeatures);
    this.mlpBeta = conv(o.hidden, numFeatures);
  }

  override forward(x: Tensor, map: Tensor): Tensor {
    const { numFeatures, conditionChannels: channels } = this;
    if (x.rank !== 4) throw new ShapeError({ rule: "SPADE takes an input [N, C, H, W]", got: formatShape(x.shape) });
    checkChannels("SPADE", x.shape, 1, numFeatures);
    checkConditionTensor("SPADE", map);
    if (map.rank !== 4 || map.shape[0] !== x.shape[0] || map.shape[1] !== channels || map.size === 0) {
      throw new ShapeError({
        rule: `SPADE takes a map [${x.shape[0]}, ${channels}, h, w] for x ${formatShape(x.shape)}`,
        got: formatShape(map.shape),
        fix: "One channel for each label: a map of label numbers is turned into one-hot channels first",
      });
    }
    return scope(() => {
      const xhat = this.paramFreeNorm.forward(x);
      const shared = this.mlpShared.forward(nearest(map, x.shape.slice(2)));
      const gamma = this.mlpGamma.forward(shared);
      return xhat.mul(gamma.add(1)).add(this.mlpBeta.forward(shared));
    });
  }
}

interface BaseOptions extends PlacementOptions {
  readonly eps: number;
  readonly momentum: Momentum;
  readonly communicator: Communicator | undefined;
}

function baseOf(base: unknown, numFeatures: number, { momentum, communicator, ...o }: BaseOptions): Module {
  if (base instanceof Module) return base;
  const kind = checkChoice("SPADE: base", base, ["batch", "instance", "sync"]);
  if (kind === "instance") return new InstanceNorm2d(numFeatures, o);
  const options = { ...o, momentum, affine: false };
  if (kind === "batch") return new BatchNorm2d(numFeatures, options);
  return new SyncBatchNorm(numFeatures, communicator ? { ...options, communicator } : options);
}
