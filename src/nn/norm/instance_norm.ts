import type { Tensor } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import { instanceNorm } from "../../autograd/ops/instance_norm.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkChannels, checkRank } from "../../norm/checks.js";
import { family, type NormName, type NormTraits } from "../../norm/family.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export type InstanceNormOptions = RunningNormOptions & ActivationOption;

abstract class InstanceNormBase extends RunningNorm {
  private readonly activation: NormActivation | null;

  constructor(layer: NormName, numFeatures: number, options?: InstanceNormOptions) {
    super(layer, numFeatures, options, activationDefault);
    this.activation = readActivation(layer, options?.activation ?? null);
  }

  /**
   * Each sample's own statistics; with trackRunningStats, running ones in evaluation. Those are the average over the
   * samples of a batch. A lone sample, without a batch axis, counts as a batch of one; `axis` counts the batch axis.
   */
  override forward(x: Tensor): Tensor {
    const { ranks, layouts, unbatched }: NormTraits = family[this.layer];
    checkRank(this.layer, x.shape, ranks!, layouts!);
    if (x.rank !== unbatched) return this.normalize(x);
    return this.normalize(x.reshape([1, ...x.shape])).reshape(x.shape);
  }

  private normalize(x: Tensor): Tensor {
    const { layer, axis, eps, running, numFeatures, training, activation } = this;
    checkChannels(layer, x.shape, axis, numFeatures);
    const samples = x.shape[0]!;
    const inputs = { x, ...this.affine(samples) };
    if (running && !training) return batchNormEval(inputs, running, { axis, eps, activation });
    const { normalizingVariance: variance } = this.conventions;
    const { out, extra } = instanceNorm(inputs, { axis, eps, tracked: running !== null, variance, activation });
    this.follow({ statistics: extra, repeat: samples, values: x.size / (samples * numFeatures) });
    disposeStatistics(extra);
    return out;
  }
}

/** Instance normalization of [N, C, L] or [C, L]. */
export class InstanceNorm1d extends InstanceNormBase {
  constructor(numFeatures: number, options?: InstanceNormOptions) {
    super("InstanceNorm1d", numFeatures, options);
  }
}

/** Instance normalization of [N, C, H, W] or [C, H, W]. */
export class InstanceNorm2d extends InstanceNormBase {
  constructor(numFeatures: number, options?: InstanceNormOptions) {
    super("InstanceNorm2d", numFeatures, options);
  }
}

/** Instance normalization of [N, C, D, H, W] or [C, D, H, W]. */
export class InstanceNorm3d extends InstanceNormBase {
  constructor(numFeatures: number, options?: InstanceNormOptions) {
    super("InstanceNorm3d", numFeatures, options);
  }
}
