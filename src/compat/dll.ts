// DLL (naapeli/deep-learning-library): layers of [N, C, ...] whose gamma and beta have the full shape of one sample and
// whose gradients are means over the batch.
import type { Tensor } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { ShapeError } from "../base/errors.js";
import { checkBoolean, checkNumber, checkPositiveInteger, readOptions } from "../base/options.js";
import { numberOfElements, type Shape } from "../base/shape.js";
import type { Module, Parameter } from "../nn/module.js";
import { BatchNorm as NNBatchNorm, GroupNorm as NNGroupNorm } from "../nn/norm/index.js";
import { type PlacementOptions, placementDefaults } from "../nn/placement.js";
import { checkFeatures } from "../norm/checks.js";
import { Adapter } from "./adapter.js";

export interface InitialiseOptions extends PlacementOptions {
  /** One sample's shape, without the batch: [C, ...]. */
  readonly inputShape: Shape;
}

export interface ForwardOptions {
  /** Default: false, until train() was called on the layer or on a model around it. */
  readonly training?: boolean;
}

/** What each layer of this file sets besides its names. */
const shared = { eps: 1e-6, parameterGradients: "mean" } as const;

abstract class Layer<N extends Module> extends Adapter<N> {
  abstract readonly name: string;
  readonly epsilon = shared.eps;
  /** Of the shape of one sample. */
  declare gamma: Parameter;
  declare beta: Parameter;
  inputShape: Shape | null = null;
  outputShape: Shape | null = null;
  /** How many numbers are learned. */
  nparams = 0;
  dataType: DType = placementDefaults.dtype;

  constructor() {
    super("initialiseLayer({ inputShape })");
    this.training = false;
  }

  protected abstract make(shape: Shape, placement: PlacementOptions): N;
  protected readonly names: Readonly<Record<string, string>> = { gamma: "weight", beta: "bias" };

  /** Makes gamma (ones), beta (zeros) and, in batch normalization, running statistics. */
  initialiseLayer(options: InitialiseOptions): void {
    const defaults = { inputShape: null as Shape | null, ...placementDefaults };
    const { inputShape, ...placement } = readOptions(`${this.constructor.name}.initialiseLayer`, options, defaults);
    if (!Array.isArray(inputShape) || inputShape.length === 0) {
      throw new ShapeError({
        rule: `${this.constructor.name}.initialiseLayer takes inputShape, the shape [C, ...] of one sample`,
        got: String(inputShape),
      });
    }
    const names = this.names as Readonly<Record<string, keyof N & string>>;
    this.wrap(this.make(inputShape, placement), names, placement.dtype);
    this.inputShape = [...inputShape];
    this.outputShape = this.inputShape;
    this.nparams = 2 * numberOfElements(inputShape);
    this.dataType = placement.dtype;
  }

  override forward(x: Tensor, options?: ForwardOptions): Tensor {
    const { norm } = this;
    const owner = `${this.constructor.name}.forward`;
    const o = readOptions(owner, options, { training: this.training });
    norm.training = checkBoolean(`${owner}: training`, o.training);
    checkFeatures(this.constructor.name, x.shape, this.inputShape!);
    return norm.forward(x);
  }

  /** [gamma, beta]. */
  getParameters(): [Parameter, Parameter] {
    const { norm: _, gamma, beta } = this;
    return [gamma, beta];
  }
}

export interface BatchNormOptions {
  /** Weight of the old running statistics, strictly between 0 and 1. Default 0.9. */
  readonly patience?: number;
}

/** Statistics over the batch for each feature; the unbiased variance normalizes and runs. */
export class BatchNorm extends Layer<NNBatchNorm> {
  readonly name = "Batch normalisation";
  readonly patience: number;
  declare runningMean: Tensor;
  declare runningVar: Tensor;
  protected override readonly names = {
    gamma: "weight",
    beta: "bias",
    runningMean: "runningMean",
    runningVar: "runningVar",
  };

  constructor(options?: BatchNormOptions) {
    super();
    const { patience } = readOptions("BatchNorm", options, { patience: 0.9 });
    this.patience = checkNumber("BatchNorm: patience", patience, "strictly between 0 and 1", (v) => v > 0 && v < 1);
  }

  protected override make(shape: Shape, placement: PlacementOptions): NNBatchNorm {
    const momentum = 1 - this.patience;
    return new NNBatchNorm(shape, { ...shared, ...placement, momentum, normalizingVariance: "unbiased" });
  }
}

abstract class Grouped extends Layer<NNGroupNorm> {
  /** How many groups `channels` channels fall into. */
  protected abstract groupsOf(channels: number): number;

  protected override make(shape: Shape, placement: PlacementOptions): NNGroupNorm {
    return new NNGroupNorm(this.groupsOf(shape[0]!), shape, { ...shared, ...placement, statistics: "position" });
  }
}

export interface GroupNormOptions {
  /** Must divide the number of channels. Default 32. */
  readonly numGroups?: number;
}

/** Statistics over the channels of a group, at each position. */
export class GroupNorm extends Grouped {
  readonly name = "Group normalisation";
  readonly numGroups: number;

  constructor(options?: GroupNormOptions) {
    super();
    const { numGroups } = readOptions("GroupNorm", options, { numGroups: 32 });
    this.numGroups = checkPositiveInteger("GroupNorm: numGroups", numGroups);
  }

  protected override groupsOf(): number {
    return this.numGroups;
  }
}

/** GroupNorm with one group: statistics over all channels, at each position. */
export class LayerNorm extends Grouped {
  readonly name = "Layer normalisation";

  protected override groupsOf(): number {
    return 1;
  }
}

/**
 * GroupNorm with as many groups as channels. A statistic then spans one value, so the output is beta, whatever the
 * input: that is what the original computes. nn.InstanceNorm2d is instance normalization as its paper has it.
 */
export class InstanceNorm extends Grouped {
  readonly name = "Instance normalisation";

  protected override groupsOf(channels: number): number {
    return channels;
  }
}
