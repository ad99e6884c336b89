import { type Tensor, zeros } from "../autograd/index.js";
import { conv } from "../autograd/ops/conv.js";
import { type PerAxis, perAxis } from "../autograd/ops/windows.js";
import { OptionError } from "../base/errors.js";
import { checkBoolean, checkPositiveInteger, readOptions } from "../base/options.js";
import { defaultWeights } from "./init.js";
import { Module, Parameter } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export interface ConvLayerOptions extends PlacementOptions {
  readonly stride?: PerAxis;
  /** Zeros on both sides; "same" keeps the spatial lengths (stride 1 only), "valid" is 0. */
  readonly padding?: PerAxis | "same" | "valid";
  readonly dilation?: PerAxis;
  readonly groups?: number;
  readonly bias?: boolean;
}

/** Throws OptionError unless groups divides both channel counts. */
export function checkGroups(owner: string, inChannels: number, outChannels: number, groups: number): void {
  checkPositiveInteger(`${owner} inChannels`, inChannels);
  checkPositiveInteger(`${owner} outChannels`, outChannels);
  checkPositiveInteger(`${owner} groups`, groups);
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw new OptionError({
      rule: `${owner} groups must divide inChannels and outChannels`,
      got: `groups ${groups} for ${inChannels} and ${outChannels}`,
    });
  }
}

/** What the convolutions of 1, 2 and 3 spatial axes share. State: weight [out, in / groups, ...kernel], bias [out]. */
abstract class ConvNd extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[] | "same" | "valid";
  readonly dilation: readonly number[];
  readonly groups: number;

  constructor(
    axes: number,
    readonly inChannels: number,
    readonly outChannels: number,
    kernelSize: PerAxis,
    options: ConvLayerOptions | undefined,
  ) {
    super();
    const owner = `Conv${axes}d`;
    const o = readOptions(owner, options, {
      ...{ stride: 1 as PerAxis, padding: 0 as PerAxis | "same" | "valid", dilation: 1 as PerAxis, groups: 1 },
      ...{ bias: true, ...placementDefaults },
    });
    const placed = readPlacement(o);
    checkGroups(owner, inChannels, outChannels, o.groups);
    checkBoolean(`${owner} bias`, o.bias);
    this.kernelSize = perAxis(`${owner} kernelSize`, kernelSize, axes, 1);
    this.stride = perAxis(`${owner} stride`, o.stride, axes, 1);
    this.dilation = perAxis(`${owner} dilation`, o.dilation, axes, 1);
    this.padding = typeof o.padding === "string" ? o.padding : perAxis(`${owner} padding`, o.padding, axes, 0);
    if (typeof o.padding === "string" && o.padding !== "same" && o.padding !== "valid") {
      throw new OptionError({ rule: `${owner} padding is a number, a list, "same" or "valid"`, got: `"${o.padding}"` });
    }
    if (o.padding === "same" && this.stride.some((s) => s !== 1)) {
      throw new OptionError({
        rule: `${owner} padding "same" needs stride 1`,
        got: `stride ${this.stride.join(", ")}`,
        fix: "Give the padding as numbers",
      });
    }
    this.groups = o.groups;
    this.weight = new Parameter(zeros([outChannels, inChannels / o.groups, ...this.kernelSize], placed));
    this.bias = o.bias ? new Parameter(zeros([outChannels], placed)) : null;
    this.resetParameters();
  }

  /** Uniform in +-1 / sqrt(fanIn), fanIn being inChannels / groups times the kernel's volume. */
  resetParameters(): void {
    defaultWeights(this.weight, this.bias);
  }

  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups } = this;
    return conv(x, this.weight, this.bias, { stride, padding, dilation, groups });
  }
}

/** Convolution of [N, C, L] or [C, L]. */
export class Conv1d extends ConvNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvLayerOptions) {
    super(1, inChannels, outChannels, kernelSize, options);
  }
}

/** Convolution of [N, C, H, W] or [C, H, W]. */
export class Conv2d extends ConvNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvLayerOptions) {
    super(2, inChannels, outChannels, kernelSize, options);
  }
}

/** Convolution of [N, C, D, H, W] or [C, D, H, W]. */
export class Conv3d extends ConvNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvLayerOptions) {
    super(3, inChannels, outChannels, kernelSize, options);
  }
}
