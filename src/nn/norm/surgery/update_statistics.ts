import { noGrad, Tensor } from "../../../autograd/index.js";
import { describeValue, NonFiniteError, OptionError, StateError } from "../../../base/errors.js";
import { checkNumber, checkPositiveInteger, readOptions } from "../../../base/options.js";
import { scope } from "../../../memory/scope.js";
import { biasedVariance, type Moments, mergeMoments, noMoments, unbiasedVariance } from "../../../norm/moments.js";
import type { Module } from "../../module.js";
import { gatherStatistics } from "../gathering.js";
import { RunningNorm } from "../running_norm.js";
import type { Batch } from "../running_stats.js";
import { called, checkModel, followsBatches, modulesOnce } from "./batch_norms.js";

export interface UpdateStatisticsOptions<B = unknown> {
  /**
   * Passes over the batches, default 1. In the first one layers normalize with the batch's own statistics, as in
   * training; in later ones with those of the pass before, so that after as many passes as there are batch
   * normalizations in a row the result does not depend on how the data are cut into batches.
   */
  readonly passes?: number;
  /** How many batches a pass takes at most. Default: all. */
  readonly maxBatches?: number;
  /** What of a batch goes into the model: a tensor, or all arguments of forward. Default: see updateStatistics. */
  readonly select?: (batch: B) => Tensor | readonly unknown[];
}

export interface UpdatedStatistics {
  /** Paths of the layers whose running statistics were replaced; those that no batch reached are not among them. */
  readonly layers: string[];
  /** Batches of the last pass. */
  readonly batches: number;
}

/**
 * Precise batch normalization: replaces the running statistics of every batch normalization by those of all the data in
 * `batches`, merged by count (not averaged, and without momentum). Everything else is in evaluation meanwhile (no
 * dropout; EvoNormB0 and PowerNorm, which follow batches in ways of their own, keep their statistics); parameters, modes, momentum and frozen layers stay. numBatchesTracked counts the batches anew.
 *
 * A batch is a tensor, an object with x or input, or an array that begins with x; `select` takes any other. An async
 * source gives a promise. As in evaluation of a loader, tensors that a synchronous source makes while it is being
 * iterated are disposed after their batch.
 * Throws StateError if there is no such layer or no batch, OptionError for a batch of another form or passes over a
 * source that can be iterated once, NonFiniteError for NaN or Inf in the statistics; the old ones stay then.
 * Source: Wu & Johnson 2021, arXiv:2105.07576.
 */
export function updateStatistics<B>(
  model: Module,
  batches: Iterable<B>,
  options?: UpdateStatisticsOptions<B>,
): UpdatedStatistics;
export function updateStatistics<B>(
  model: Module,
  batches: AsyncIterable<B>,
  options?: UpdateStatisticsOptions<B>,
): Promise<UpdatedStatistics>;
export function updateStatistics<B>(
  model: Module,
  batches: Iterable<B> | AsyncIterable<B>,
  options?: UpdateStatisticsOptions<B>,
): UpdatedStatistics | Promise<UpdatedStatistics> {
  return run("updateStatistics", model, batches, options);
}

/**
 * Adaptive batch normalization: the model's statistics become those of another domain, and nothing else changes. The
 * same computation as updateStatistics, on unlabelled data of that domain. Source: Li et al. 2016, arXiv:1603.04779.
 */
export function adapt<B>(model: Module, batches: Iterable<B>, options?: UpdateStatisticsOptions<B>): UpdatedStatistics;
export function adapt<B>(
  model: Module,
  batches: AsyncIterable<B>,
  options?: UpdateStatisticsOptions<B>,
): Promise<UpdatedStatistics>;
export function adapt<B>(
  model: Module,
  batches: Iterable<B> | AsyncIterable<B>,
  options?: UpdateStatisticsOptions<B>,
): UpdatedStatistics | Promise<UpdatedStatistics> {
  return run("adapt", model, batches, options);
}

function run<B>(
  owner: string,
  model: Module,
  batches: Iterable<B> | AsyncIterable<B>,
  options: UpdateStatisticsOptions<B> | undefined,
): UpdatedStatistics | Promise<UpdatedStatistics> {
  checkModel(owner, model);
  const o = readOptions(owner, options, {
    ...{ passes: 1, maxBatches: Number.POSITIVE_INFINITY },
    select: undefined as UpdateStatisticsOptions<B>["select"],
  });
  checkPositiveInteger(`${owner}: passes`, o.passes);
  checkNumber(`${owner}: maxBatches`, o.maxBatches, "a number of at least 1", (v) => v >= 1);
  const population = new Population(owner, model, o.select as (batch: unknown) => Tensor | readonly unknown[]);
  const source: object = Object(batches);
  if (Symbol.asyncIterator in source) return overAsync(population, batches as AsyncIterable<B>, o);
  if (!(Symbol.iterator in source)) {
    throw new OptionError({ rule: `${owner} takes batches to iterate over`, got: describeValue(batches) });
  }
  return over(population, batches as Iterable<B>, o);
}

interface Extent {
  readonly passes: number;
  readonly maxBatches: number;
}

function over<B>(population: Population, batches: Iterable<B>, { passes, maxBatches }: Extent): UpdatedStatistics {
  try {
    for (let pass = 0; pass < passes; pass++) {
      const iterator = population.fresh(batches[Symbol.iterator](), batches, passes);
      let ended = false;
      while (!ended && population.batches < maxBatches) {
        ended = scope(() => {
          const next = iterator.next();
          if (!next.done) population.take(next.value);
          return next.done === true;
        });
      }
      if (!ended) iterator.return?.();
      population.finishPass();
    }
    return population.report;
  } catch (error) {
    population.restore();
    throw error;
  }
}

async function overAsync<B>(
  population: Population,
  batches: AsyncIterable<B>,
  { passes, maxBatches }: Extent,
): Promise<UpdatedStatistics> {
  try {
    for (let pass = 0; pass < passes; pass++) {
      const iterator = population.fresh(batches[Symbol.asyncIterator](), batches, passes);
      let ended = false;
      while (!ended && population.batches < maxBatches) {
        const next = await iterator.next();
        if (!next.done) scope(() => population.take(next.value));
        ended = next.done === true;
      }
      if (!ended) await iterator.return?.();
      population.finishPass();
    }
    return population.report;
  } catch (error) {
    population.restore();
    throw error;
  }
}

/** The moments of each layer's input over all batches of a pass. */
class Population {
  batches = 0;
  private readonly layers: ReadonlyMap<object, string>;
  private moments = new Map<RunningNorm, Moments[]>();
  private readonly before: (readonly [Tensor, ArrayLike<number>])[];
  private pass = 0;
  report: UpdatedStatistics = { layers: [], batches: 0 };

  constructor(
    private readonly owner: string,
    private readonly model: Module,
    private readonly select: ((batch: unknown) => Tensor | readonly unknown[]) | undefined,
  ) {
    const found = modulesOnce(model).filter(
      ([, m]) => m instanceof RunningNorm && followsBatches(m) && !m.heldInEval,
    ) as [string, RunningNorm][];
    if (found.length === 0) {
      throw new StateError({
        rule: `${owner} takes a model with batch normalizations that keep running statistics`,
        got: `${model.constructor.name} with none`,
      });
    }
    this.layers = new Map(found.map(([path, layer]) => [layer, path]));
    this.before = found.flatMap(([, { runningMean, runningVar, numBatchesTracked }]) =>
      [runningMean!, runningVar!, numBatchesTracked!].map((t) => [t, t.dataSync()] as const),
    );
  }

  /** Refuses to iterate once more over what iterates once. */
  fresh<I>(iterator: I, batches: unknown, passes: number): I {
    if (passes === 1 || iterator !== batches) return iterator;
    throw new OptionError({
      rule: `${this.owner} with passes: ${passes} iterates over the batches ${passes} times`,
      got: "a source that can be iterated once",
      fix: "Give a DataLoader or an array, or an object whose [Symbol.iterator] begins anew",
    });
  }

  /** One batch through the model, with every layer's statistics gathered. */
  take(batch: unknown): void {
    const inputs = this.inputsOf(batch);
    const modes = this.model.modules().map((module) => [module, module.training] as const);
    const restore = this.pass === 0 ? this.trainLayers() : this.measureLayers();
    try {
      noGrad(() =>
        gatherStatistics(
          (layer, statistics) => this.add(layer as RunningNorm, statistics),
          () => this.model.forward(...inputs),
        ),
      );
    } finally {
      restore();
      for (const [module, training] of modes) module.training = training;
    }
    this.batches++;
  }

  /** Running statistics from the moments of the pass. */
  finishPass(): void {
    if (this.moments.size === 0) {
      throw new StateError({
        rule: `${this.owner} needs a batch that reaches a batch normalization`,
        got: `${this.batches} batches`,
        fix: this.batches === 0 ? "Give it batches, anew for each pass" : "Call it outside noStatsUpdate",
      });
    }
    for (const [layer, moments] of this.moments) {
      const variance = layer.conventions.runningVariance === "unbiased" ? unbiasedVariance : biasedVariance;
      const [means, variances] = [moments.map((m) => m.mean), moments.map(variance)];
      if (![...means, ...variances].every(Number.isFinite)) {
        throw new NonFiniteError({
          rule: `${this.owner} takes finite statistics`,
          got: `NaN or Inf at ${called(this.layers.get(layer)!, layer)}`,
          fix: "Look for the batch that holds it; the statistics from before are back in place",
        });
      }
      layer.runningMean!.assign(means);
      layer.runningVar!.assign(variances);
      layer.numBatchesTracked!.assign([this.batches]);
    }
    const layers = [...this.moments.keys()].map((layer) => this.layers.get(layer)!);
    this.report = { layers, batches: this.batches };
    this.moments = new Map();
    this.batches = 0;
    this.pass++;
  }

  /** The running statistics from before the first pass. */
  restore(): void {
    for (const [t, values] of this.before) t.assign(values);
  }

  /** Evaluation but for the layers, which normalize with the batch's statistics. */
  private trainLayers(): () => void {
    this.model.eval();
    for (const layer of this.layers.keys()) (layer as Module).training = true;
    return () => {};
  }

  /** Evaluation throughout; each layer is asked for the batch's statistics beside. */
  private measureLayers(): () => void {
    this.model.eval();
    const bodies = ([...this.layers.keys()] as Module[]).map((layer) => [layer, layer.forward] as const);
    for (const [layer, body] of bodies) {
      layer.forward = (...inputs: unknown[]) => {
        layer.training = true;
        body.apply(layer, inputs).dispose();
        layer.training = false;
        return body.apply(layer, inputs);
      };
    }
    return () => {
      for (const [layer, body] of bodies) layer.forward = body;
    };
  }

  private add(layer: RunningNorm, { statistics, repeat, values }: Batch): void {
    if (!this.layers.has(layer)) return;
    const variances = statistics.variance.dataSync();
    const means = statistics.mean?.dataSync();
    const channels = variances.length / repeat;
    const sum = this.moments.get(layer) ?? Array.from({ length: channels }, () => noMoments);
    for (const [i, variance] of variances.entries()) {
      const c = i % channels;
      sum[c] = mergeMoments(sum[c]!, { count: values, mean: means?.[i] ?? 0, m2: variance * values });
    }
    this.moments.set(layer, sum);
  }

  private inputsOf(batch: unknown): readonly unknown[] {
    if (this.select) {
      const selected = this.select(batch);
      return selected instanceof Tensor ? [selected] : selected;
    }
    const { x, input } = Object(batch) as { x?: unknown; input?: unknown };
    const found = [batch, Array.isArray(batch) ? batch[0] : undefined, x, input].find((t) => t instanceof Tensor);
    if (found) return [found];
    throw new OptionError({
      rule: `${this.owner} takes batches that are a tensor, have one as x or input, or are an array that begins with one`,
      got: batch !== null && typeof batch === "object" ? `{ ${Object.keys(batch).join(", ")} }` : String(batch),
      fix: "Pass { select: (batch) => tensor }",
    });
  }
}
