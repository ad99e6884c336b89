import { type Tensor, zeros } from "../autograd/index.js";
import { convTranspose } from "../autograd/ops/conv_transpose.js";
import { type PerAxis, perAxis } from "../autograd/ops/windows.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { checkGroups } from "./conv.js";
import { defaultWeights } from "./init.js";
import { Module, Parameter } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export interface ConvTransposeLayerOptions extends PlacementOptions {
  readonly stride?: PerAxis;
  readonly padding?: PerAxis;
  readonly outputPadding?: PerAxis;
  readonly groups?: number;
  readonly bias?: boolean;
  readonly dilation?: PerAxis;
}

/** State: weight [in, out / groups, ...kernel], bias [out]. */
abstract class ConvTransposeNd extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly outputPadding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;

  constructor(
    axes: number,
    readonly inChannels: number,
    readonly outChannels: number,
    kernelSize: PerAxis,
    options: ConvTransposeLayerOptions | undefined,
  ) {
    super();
    const owner = `ConvTranspose${axes}d`;
    const o = readOptions(owner, options, {
      ...{ stride: 1 as PerAxis, padding: 0 as PerAxis, outputPadding: 0 as PerAxis, groups: 1 },
      ...{ bias: true, dilation: 1 as PerAxis, ...placementDefaults },
    });
    const placed = readPlacement(o);
    checkGroups(owner, inChannels, outChannels, o.groups);
    checkBoolean(`${owner} bias`, o.bias);
    this.kernelSize = perAxis(`${owner} kernelSize`, kernelSize, axes, 1);
    this.stride = perAxis(`${owner} stride`, o.stride, axes, 1);
    this.padding = perAxis(`${owner} padding`, o.padding, axes, 0);
    this.outputPadding = perAxis(`${owner} outputPadding`, o.outputPadding, axes, 0);
    this.dilation = perAxis(`${owner} dilation`, o.dilation, axes, 1);
    this.groups = o.groups;
    this.weight = new Parameter(zeros([inChannels, outChannels / o.groups, ...this.kernelSize], placed));
    this.bias = o.bias ? new Parameter(zeros([outChannels], placed)) : null;
    this.resetParameters();
  }

  /** Uniform in +-1 / sqrt(outChannels / groups times the kernel's volume), which is what PyTorch takes as fanIn here. */
  resetParameters(): void {
    defaultWeights(this.weight, this.bias);
  }

  override forward(x: Tensor): Tensor {
    const { stride, padding, outputPadding, dilation, groups } = this;
    return convTranspose(x, this.weight, this.bias, { stride, padding, outputPadding, dilation, groups });
  }
}

/** Transposed convolution of [N, C, L] or [C, L]. */
export class ConvTranspose1d extends ConvTransposeNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvTransposeLayerOptions) {
    super(1, inChannels, outChannels, kernelSize, options);
  }
}

/** Transposed convolution of [N, C, H, W] or [C, H, W]. */
export class ConvTranspose2d extends ConvTransposeNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvTransposeLayerOptions) {
    super(2, inChannels, outChannels, kernelSize, options);
  }
}

/** Transposed convolution of [N, C, D, H, W] or [C, D, H, W]. */
export class ConvTranspose3d extends ConvTransposeNd {
  constructor(inChannels: number, outChannels: number, kernelSize: PerAxis, options?: ConvTransposeLayerOptions) {
    super(3, inChannels, outChannels, kernelSize, options);
  }
}
