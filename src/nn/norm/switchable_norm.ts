import { ones, type Tensor } from "../../autograd/index.js";
import {
  batchRow,
  checkSwitchable,
  normalizeMixed,
  switchableMoments,
  switchableNorm,
} from "../../autograd/ops/switchable_norm.js";
import type { Communicator } from "../../base/communicator.js";
import { ShapeError } from "../../base/errors.js";
import { checkBoolean } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { zeros_ } from "../init.js";
import type { Parameter } from "../module.js";
import { placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type CommunicatorOption, communicatorDefault, RankGroup } from "./rank_group.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";

export interface SwitchableNormOptions extends RunningNormOptions, CommunicatorOption {
  /** Whether batch statistics are among the three. Default true; false leaves instance and layer, and no running ones. */
  readonly useBatchNorm?: boolean;
  /** False averages the statistics of all batches alike, as momentum null does. Default true. */
  readonly useMovingAverage?: boolean;
  /** The weight begins as 0, for the last normalization of a residual branch. Default false. */
  readonly lastGamma?: boolean;
}

/**
 * Normalization by a learned mixture of instance, layer and batch statistics. With a communicator the batch is that of all its ranks, of
 * which some may have no part: in training every rank calls forward and backward, with one message each, and running statistics have
 * the same bits on all.
 *
 * Shapes: x and y [N, ..., C, ...], rank 3 or more.
 * State:  weight, bias [C]; running_mean, running_var [C] and num_batches_tracked of the batch's part; mean_weight and
 *         var_weight [3] (instance, layer, batch), [2] without the batch.
 */
export class SwitchableNorm extends RunningNorm {
  readonly meanWeight: Parameter;
  readonly varWeight: Parameter;
  readonly useBatchNorm: boolean;
  readonly communicator: Communicator;
  readonly #group: RankGroup;

  constructor(numFeatures: number, options?: SwitchableNormOptions) {
    const own = { useBatchNorm: true, useMovingAverage: true, lastGamma: false };
    const alone = options?.useBatchNorm === false;
    super("SwitchableNorm", numFeatures, alone ? { ...options, trackRunningStats: false } : options, {
      ...own,
      ...communicatorDefault,
    });
    this.#group = new RankGroup("SwitchableNorm", options?.communicator, `SwitchableNorm of ${numFeatures} channels`);
    this.communicator = this.#group.communicator;
    const read = (name: keyof typeof own) =>
      checkBoolean(`SwitchableNorm: ${name}`, options?.[name] === undefined ? own[name] : options[name]);
    this.useBatchNorm = read("useBatchNorm");
    if (!read("useMovingAverage")) this.momentum = null;
    const { dtype, device } = placementDefaults;
    const placed = readPlacement({ dtype: options?.dtype ?? dtype, device: options?.device ?? device });
    const kinds = this.useBatchNorm ? 3 : 2;
    this.meanWeight = affineParameter(ones([kinds], placed));
    this.varWeight = affineParameter(ones([kinds], placed));
    if (read("lastGamma") && this.weight) zeros_(this.weight);
  }

  /** Batch statistics in training or without running ones; running statistics in evaluation. */
  override forward(x: Tensor): Tensor {
    const { axis, eps, numFeatures, meanWeight, varWeight } = this;
    if (x.rank < 3) {
      throw new ShapeError({
        rule: "SwitchableNorm takes an input [N, C, ...] with at least one spatial axis",
        got: formatShape(x.shape),
        fix: "Without one, instance statistics are those of single values",
      });
    }
    checkChannels("SwitchableNorm", x.shape, axis, numFeatures);
    const running = this.training ? null : this.running;
    if (this.#group.several && this.useBatchNorm && !running) return this.#normalizeTogether(x);
    return scope(() => {
      const inputs = { x, ...this.affine(x.shape[0]!), meanWeight, varWeight };
      const { normalizingVariance: variance } = this.conventions;
      const { out, batch } = switchableNorm(inputs, { axis, eps, variance, ...(running ? { given: running } : {}) });
      this.follow({ statistics: batch, repeat: 1, values: x.size / numFeatures });
      return out;
    });
  }

  /** With the batch's part from all ranks. */
  #normalizeTogether(x: Tensor): Tensor {
    const { axis, eps, numFeatures, weight, bias, meanWeight, varWeight } = this;
    checkSwitchable({ x, weight, bias, meanWeight, varWeight }, axis, false);
    return scope(() => {
      const own = switchableMoments(x, { axis, variance: this.conventions.normalizingVariance });
      const flat = { mean: own.batch.mean.reshape([-1]), variance: own.batch.variance.reshape([-1]) };
      const all = this.#group.shareMoments(x, flat, x.size / numFeatures, x.shape[0]!);
      const inputs = { x, ...this.affine(all.samples), meanWeight, varWeight };
      const out = normalizeMixed(inputs, { ...own, batch: batchRow(all) }, { axis, eps });
      this.follow({ statistics: all, repeat: 1, values: all.values });
      return out;
    });
  }
}
