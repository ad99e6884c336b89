import { ones, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { checkBoolean, checkChoice, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { broadcastShapes, formatShape, numberOfElements, type Shape, sameShape } from "../../base/shape.js";
import { everyTime } from "../../kernels/tape.js";
import { family, type NormName, type NormTraits } from "../../norm/family.js";
import { checkMomentum, type Momentum, momentumWeight } from "../../norm/momentum.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { asOperand, type ConventionOptions, checkConventions, conventionDefaults } from "./conventions.js";
import { gatherer } from "./gathering.js";
import {
  areFinite,
  type Batch,
  type BatchSlots,
  moveRunning,
  type Running,
  runningStatsMove,
  slotsOf,
} from "./running_stats.js";

export interface RunningNormOptions extends ConventionOptions, PlacementOptions {
  readonly eps?: number;
  /** Weight of the new batch in running statistics; null averages all batches alike; or a schedule n -> weight. */
  readonly momentum?: Momentum;
  readonly affine?: boolean;
  /** Shape of weight and bias where they are shared among features: one that broadcasts to the features', as [C] to [H, C]. */
  readonly affineShape?: Shape | null;
  readonly trackRunningStats?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
  /** "guard" leaves a batch with NaN or Inf in its statistics out of the running ones, and counts it in skippedUpdates. */
  readonly runningStats?: "update" | "guard";
}

/** What batch and instance normalization share: weight and bias for each channel, and running statistics. */
export abstract class RunningNorm extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  runningMean: Tensor | null = null;
  runningVar: Tensor | null = null;
  /** int32, without axes: how many batches have moved the running statistics. */
  numBatchesTracked: Tensor | null = null;
  eps: number;
  momentum: Momentum;
  readonly axis: number;
  readonly runningStats: "update" | "guard";
  readonly conventions: Required<ConventionOptions>;
  readonly numFeatures: number;
  /** Shape of the running statistics, and of weight and bias unless affineShape says otherwise. */
  readonly featureShape: Shape;
  /** Whether features (all but the batch axis) have statistics of their own, rather than channels. */
  readonly perFeature: boolean;
  /** Batches that `runningStats: "guard"` left out. */
  skippedUpdates = 0;

  constructor(
    protected readonly layer: NormName,
    numFeatures: number | Shape,
    options?: RunningNormOptions,
    /** Options that this layer has beside these, with their defaults; it reads them itself. */
    own: object = {},
  ) {
    super();
    const traits: NormTraits = family[layer];
    this.perFeature = Array.isArray(numFeatures);
    this.featureShape = (this.perFeature ? [...(numFeatures as Shape)] : [numFeatures as number]).map((d) =>
      checkPositiveInteger(`${layer}: numFeatures`, d),
    );
    this.numFeatures = numberOfElements(this.featureShape);
    const o = readOptions(layer, options, {
      eps: traits.eps as number,
      momentum: traits.momentum as Momentum,
      affine: traits.affine,
      affineShape: null as Shape | null,
      trackRunningStats: traits.trackRunningStats === true,
      axis: 1,
      runningStats: "update" as "update" | "guard",
      ...conventionDefaults,
      ...placementDefaults,
      ...own,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative(`${layer}: eps`, o.eps);
    this.momentum = checkMomentum(layer, o.momentum);
    this.axis = checkAxis(layer, o.axis);
    this.runningStats = checkChoice(`${layer}: runningStats`, o.runningStats, ["update", "guard"]);
    this.conventions = checkConventions(layer, o);
    const affine = checkBoolean(`${layer}: affine`, o.affine);
    const shape = checkAffineShape(layer, o.affineShape, this.featureShape);
    this.weight = affine ? affineParameter(ones(shape, placed)) : null;
    this.bias = affine ? affineParameter(zeros(shape, placed)) : null;
    const tracks = checkBoolean(`${layer}: trackRunningStats`, o.trackRunningStats);
    this.registerBuffer("runningMean", tracks ? zeros(this.featureShape, placed) : null);
    this.registerBuffer("runningVar", tracks ? ones(this.featureShape, placed) : null, { least: 0 });
    this.registerBuffer("numBatchesTracked", tracks ? tensor(0, { dtype: "int32" }) : null, { least: 0 });
  }

  /** Mean 0, variance 1, no batches. */
  resetRunningStats(): void {
    this.runningMean?.assign(new Float64Array(this.numFeatures));
    this.runningVar?.assign(new Float64Array(this.numFeatures).fill(1));
    this.numBatchesTracked?.assign([0]);
    this.skippedUpdates = 0;
  }

  /** Flat running statistics, or null. */
  protected get running(): Running | null {
    const { runningMean: mean, runningVar: variance, perFeature } = this;
    if (!mean || !variance) return null;
    return perFeature ? { mean: mean.reshape([-1]), variance: variance.reshape([-1]) } : { mean, variance };
  }

  /** Weight and bias as the ops take them: flat, with gradients as parameterGradients asks for `samples` samples. */
  protected affine(samples: number): { weight: Tensor | null; bias: Tensor | null } {
    const { weight, bias, numFeatures, featureShape } = this;
    const operand = (p: Tensor | null) =>
      asOperand(p?.expand(featureShape) ?? null, [numFeatures], this.conventions.parameterGradients, samples);
    return { weight: operand(weight), bias: operand(bias) };
  }

  /** Moves the running statistics, if there are any, by one training batch. */
  protected follow(batch: Batch): void {
    if (!this.running || !this.numBatchesTracked || !this.training || !runningStatsMove()) return;
    const gather = gatherer();
    const slots = slotsOf(batch);
    everyTime(() => {
      if (this.runningStats === "guard" && !areFinite(slots.mean, slots.variance)) this.skippedUpdates++;
      else if (gather) gather(this, batch);
      else this.#move(slots);
    });
  }

  #move(batch: BatchSlots): void {
    const [running, counter] = [this.running!, this.numBatchesTracked!];
    const n = counter.item() + 1;
    moveRunning(running, batch, momentumWeight(this.momentum, n), this.conventions.runningVariance);
    counter.assign([n]);
  }
}

export function checkAxis(layer: string, axis: unknown): number {
  if (Number.isInteger(axis)) return axis as number;
  throw new OptionError({
    rule: `${layer}: axis must be a whole number, the place of the channels in the input's shape`,
    got: String(axis),
    fix: "Use 1 for [N, C, ...] and -1 for channels last",
  });
}

function checkAffineShape(layer: string, shape: Shape | null, features: Shape): Shape {
  if (shape === null) return features;
  if (sameShape(broadcastShapes(shape, features), features)) return shape;
  throw new ShapeError({
    rule: `${layer}: affineShape must broadcast to the features ${formatShape(features)}`,
    got: formatShape(shape),
  });
}
