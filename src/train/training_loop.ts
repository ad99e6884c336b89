import { NonFiniteError, StateError } from "../base/errors.js";
import type { NormLayerStatistics, RunEndEvent, TrainingEvent } from "../base/events.js";
import { globalRandom } from "../base/random.js";
import { numberOfElements } from "../base/shape.js";
import { broadcastTensors } from "../distributed/copies.js";
import { onAllRanks } from "../distributed/together.js";
import { checkSameParameters } from "../distributed/unlike.js";
import { scope } from "../memory/scope.js";
import type { Module, StateDict, StateSource } from "../nn/module.js";
import { clipGradNormAsync } from "../optim/index.js";
import { type Callback, dispatch, type TrainerHandle } from "./callback.js";
import { EarlyStopping } from "./early_stopping.js";
import { type Evaluation, evaluate } from "./evaluate.js";
import { Gradients, lossOf } from "./gradients.js";
import { type LoopOptions, type ReadLoopOptions, readLoopOptions } from "./loop_options.js";
import { LossRecord } from "./loss_record.js";
import { normKind } from "./norm_statistics.js";
import type { BatchSource, SourceBatch } from "./parts.js";
import { Pause } from "./pause.js";
import { buffersOfOthers, type RankBuffers } from "./rank_buffers.js";
import { randomOfRank, randomStates, spreadRandom, startTogether } from "./ranks.js";
import { checkTrainingState, type TrainingState } from "./training_state.js";

export interface TrainingResult {
  readonly testAccuracy: number | null;
  readonly testLoss: number | null;
  /** Mean of the last epoch's step losses. */
  readonly trainLoss: number | null;
  readonly steps: number;
  /** Wall time of training, over all processes that a resumed run had. */
  readonly seconds: number;
  /** Over the time spent in steps: evaluation, statistics and checkpoints are not counted. */
  readonly stepsPerSecond: number;
  readonly lossHash: string | null;
  readonly reason: RunEndEvent["reason"];
}

interface Taken {
  readonly loss: number;
  readonly gradNorm: number | null;
  readonly layers: readonly NormLayerStatistics[] | null;
}

/** A DataLoader tells of a last batch of one by itself; where all batches are of one, only the model makes it matter. */
function warnOfSingles(model: Module, train: BatchSource): void {
  if (train.batchSize !== 1) return;
  const layers = model.namedModules().filter(([, module]) => normKind(module) === "batch");
  if (layers.length === 0) return;
  console.warn(
    `Trainer: batches of one sample meet batch norm in ${layers.map(([name]) => name || "the model").join(", ")}: each ` +
      "sample is normalized by itself, and a layer with one value a channel cannot train. Use a larger batchSize, or " +
      "group norm.",
  );
}

/**
 * Trains a model: epochs of steps, evaluation, schedules, early stopping. Uses no files and no terminal, so it is the
 * trainer of the browser as it stands; Trainer adds checkpoints, progress and signals.
 */
export class TrainingLoop implements TrainerHandle {
  protected readonly options: ReadLoopOptions;
  protected readonly callbacks: Callback[];
  private readonly gradients: Gradients;
  private readonly stopping: EarlyStopping | null;
  private losses = new LossRecord();
  private epochsDone = 0;
  /** Steps that were done when the epoch in progress began. */
  private epochStart = 0;
  private seconds = 0;
  private stepSeconds = 0;
  private lastEvaluation: (Evaluation & { step: number }) | null = null;
  private position: BatchSource["state"] | null = null;
  private running = false;
  /** Somebody here wants the run to end. */
  private stopAsked = false;
  /** All ranks know that it ends. */
  private stopAgreed = false;

  constructor(options: LoopOptions) {
    this.options = readLoopOptions(options);
    this.callbacks = [...this.options.callbacks];
    this.gradients = new Gradients(this.options);
    const { earlyStopping, test } = this.options;
    this.stopping = earlyStopping ? new EarlyStopping(earlyStopping, test !== undefined) : null;
  }

  get step(): number {
    return this.losses.length;
  }

  get epoch(): number {
    return Math.min(this.epochsDone + 1, this.options.epochs);
  }

  /** Optimizer steps in an epoch. */
  get stepsPerEpoch(): number {
    return Math.ceil(this.options.train.length / this.options.accumulateSteps);
  }

  /**
   * Ends the run after the step in progress; fit() then returns with the reason "stopped". With several ranks any of them may call
   * it: all end after the same step, the next one in which they hear of it.
   */
  stop(): void {
    this.stopAsked = true;
  }

  /**
   * Loss and accuracy on `loader`, or on the trainer's test data; the model keeps its mode. With several ranks all call it: buffers
   * become those of rank 0, and all get the same numbers.
   */
  evaluate(loader: BatchSource | undefined = this.options.test): Promise<Evaluation> {
    const { model, loss, communicator } = this.options;
    if (loader && communicator.size > 1) broadcastTensors(communicator, model.buffers(), 0);
    if (loader) return evaluate(model, loss, loader, communicator);
    throw new StateError({ rule: "evaluate() needs a loader, or a trainer with test data", got: "neither" });
  }

  /**
   * Trains until all epochs are done, patience ends, or stop() is called; called again after stop(), it goes on.
   * Throws NonFiniteError when a loss or a clipped gradient is NaN or infinite: parameters are then as before that step.
   */
  async fit(): Promise<TrainingResult> {
    if (this.running) throw new StateError({ rule: "fit() runs once at a time", got: "a second call" });
    this.running = true;
    this.stopAsked = false;
    this.stopAgreed = false;
    const started = performance.now();
    const before = this.seconds;
    const clock = () => {
      this.seconds = before + (performance.now() - started) / 1000;
    };
    try {
      await this.begin();
      const reason = await this.runEpochs(clock);
      clock();
      return await this.finish(reason);
    } catch (error) {
      clock();
      await this.fail(error);
      throw error;
    } finally {
      this.gradients.close();
      this.running = false;
    }
  }

  private async begin(): Promise<void> {
    const { name, epochs, train, model, settings, seed, communicator } = this.options;
    if (this.step === 0 && seed !== undefined) globalRandom.seed(seed);
    if (this.position) train.state = this.position;
    startTogether(this.options, this.step);
    this.gradients.open();
    if (this.step === 0) spreadRandom(this.options);
    if (communicator.rank === 0) warnOfSingles(model, train);
    await this.emit({
      type: "runStart",
      name,
      time: new Date().toISOString(),
      epochs,
      stepsPerEpoch: this.stepsPerEpoch,
      step: this.step,
      parameters: model.parameters().reduce((n, p) => n + numberOfElements(p.shape), 0),
      device: model.device,
      ranks: communicator.size,
      settings,
    });
  }

  private async runEpochs(clock: () => void): Promise<RunEndEvent["reason"]> {
    const { epochs, train, model } = this.options;
    const pause = new Pause();
    while (this.epochsDone < epochs) {
      model.train();
      const batches = train[Symbol.iterator]();
      while (await this.runStep(batches)) {
        clock();
        await pause.ifDue();
        if (this.ends()) {
          this.position = train.state;
          return "stopped";
        }
      }
      this.position = null;
      if (await this.endEpoch(clock)) return "earlyStopping";
      if (this.ends() && this.epochsDone < epochs) return "stopped";
    }
    return "finished";
  }

  /** One step and all that follows from it; false when the epoch has no batch left. */
  private async runStep(batches: Iterator<SourceBatch>): Promise<boolean> {
    const { optimizer, scheduler, schedulerEvery, evaluateEverySteps } = this.options;
    const lr = optimizer.paramGroups[0]?.lr ?? 0;
    const started = performance.now();
    const taken = await this.takeStep(batches);
    if (!taken) return false;
    if (!taken.layers) this.stepSeconds += (performance.now() - started) / 1000;
    const { loss, gradNorm, layers } = taken;
    this.losses.add(loss);
    if (schedulerEvery === "step") scheduler?.step(loss);
    const { step, epoch } = this;
    if (layers) await this.emit({ type: "normStatistics", step, epoch, layers });
    await this.emit({ type: "step", step, epoch, loss, lr, gradNorm });
    if (evaluateEverySteps !== undefined && step % evaluateEverySteps === 0) await this.evaluateNow();
    return true;
  }

  private async takeStep(batches: Iterator<SourceBatch>): Promise<Taken | null> {
    const { model, optimizer, clipNorm, communicator, normStatisticsEverySteps: every } = this.options;
    const step = this.step + 1;
    const watch = every !== undefined && (step === 1 || step % every === 0);
    const made = scope(() => this.gradients.next(batches, watch));
    if (!made) return null;
    const loss = this.agree(await lossOf(made));
    if (!Number.isFinite(loss)) throw this.notFinite("loss", loss, step);
    const gradNorm = clipNorm === undefined ? null : await this.clip(clipNorm, step);
    const layers = (await made.layers?.()) ?? null;
    scope(() => optimizer.step());
    if (step === 1) checkSameParameters(communicator, model);
    return { loss, gradNorm, layers };
  }

  /** The loss of all ranks' parts of the step; they also tell each other who wants to stop. */
  private agree(part: number): number {
    const { communicator } = this.options;
    if (communicator.size === 1) return part;
    const message = Float64Array.of(part, this.stopAsked ? 1 : 0);
    communicator.allReduce(message, "sum");
    this.stopAgreed = message[1]! > 0;
    return message[0]!;
  }

  /** Whether this is the step after which all ranks stop. */
  private ends(): boolean {
    return this.options.communicator.size === 1 ? this.stopAsked : this.stopAgreed;
  }

  private async clip(clipNorm: number, step: number): Promise<number> {
    try {
      return await clipGradNormAsync(this.options.model.parameters(), clipNorm);
    } catch (error) {
      if (error instanceof StateError) throw this.notFinite("norm of the gradients", Number.NaN, step);
      throw error;
    }
  }

  private notFinite(what: string, value: number, step: number): NonFiniteError {
    return onAllRanks(
      new NonFiniteError({
        rule: `The ${what} must be a finite number at every step`,
        got: `${value} at step ${step} (epoch ${this.epoch})`,
        fix: "Try a smaller learning rate or clipNorm, and look for NaN in the data",
      }),
    );
  }

  private async evaluateNow(): Promise<void> {
    if (!this.options.test || this.lastEvaluation?.step === this.step) return;
    const evaluation = await this.evaluate();
    const { step, epoch } = this;
    this.lastEvaluation = { ...evaluation, step };
    const { loss, accuracy } = evaluation;
    if (!Number.isFinite(loss)) throw this.notFinite("test loss", loss, step);
    await this.emit({ type: "evaluation", step, epoch, loss, accuracy });
  }

  /** Evaluation, schedule and early stopping; true when training ends here. */
  private async endEpoch(clock: () => void): Promise<boolean> {
    const { model, scheduler, schedulerEvery, communicator } = this.options;
    checkSameParameters(communicator, model);
    await this.evaluateNow();
    const trainLoss = this.losses.meanSince(this.epochStart);
    const { loss: testLoss = null, accuracy: testAccuracy = null } = this.lastEvaluation ?? {};
    if (schedulerEvery === "epoch") scheduler?.step(testLoss ?? trainLoss ?? undefined);
    const done = this.stopping?.done({ trainLoss, testLoss, testAccuracy }) ?? false;
    const epoch = this.epoch;
    this.epochsDone++;
    this.epochStart = this.step;
    clock();
    await this.emit({ type: "epochEnd", step: this.step, epoch, loss: trainLoss ?? 0, seconds: this.seconds });
    return done;
  }

  private async finish(reason: RunEndEvent["reason"]): Promise<TrainingResult> {
    const result = await this.result(reason);
    const { steps, ...rest } = result;
    await this.emit({ type: "runEnd", step: steps, epoch: this.epoch, message: null, ...rest });
    return result;
  }

  private async result(reason: RunEndEvent["reason"]): Promise<TrainingResult> {
    const epochBegun = this.epochStart < this.step;
    const lastEpoch = epochBegun ? this.epochStart : Math.max(0, this.step - this.stepsPerEpoch);
    return {
      testAccuracy: this.lastEvaluation?.accuracy ?? null,
      testLoss: this.lastEvaluation?.loss ?? null,
      trainLoss: this.losses.meanSince(lastEpoch),
      steps: this.step,
      seconds: this.seconds,
      stepsPerSecond: this.stepSeconds > 0 ? this.step / this.stepSeconds : 0,
      lossHash: await this.losses.digest(),
      reason,
    };
  }

  private async fail(error: unknown): Promise<void> {
    const { steps, ...rest } = await this.result("failed");
    const message = error instanceof Error ? error.message : String(error);
    try {
      await this.emit({ type: "runEnd", step: steps, epoch: this.epoch, ...rest, message });
    } catch {
      // The first error is the one to hear about.
    }
  }

  protected emit(event: TrainingEvent): Promise<void> {
    return dispatch(this.callbacks, event, this);
  }

  /**
   * Everything that training needs to go on as if it had not been cut; tensors share memory with the model. With several ranks all
   * call it at the same place, and rank 0's is the one to keep.
   */
  state(): TrainingState {
    const { model, optimizer, scheduler, train, communicator } = this.options;
    const [random, ...otherRandom] = randomStates(communicator);
    return {
      version: 1,
      step: this.step,
      epochsDone: this.epochsDone,
      epochStart: this.epochStart,
      seconds: this.seconds,
      stepSeconds: this.stepSeconds,
      losses: this.losses.all(),
      lastEvaluation: this.lastEvaluation,
      model: model.stateDict(),
      otherBuffers: buffersOfOthers(communicator, model),
      optimizer: optimizer.stateDict(),
      scheduler: scheduler?.stateDict() ?? null,
      stopping: this.stopping?.state ?? null,
      loader: train.state,
      random: random!,
      otherRandom,
      worldSize: communicator.size,
      settings: this.options.settings,
    };
  }

  /**
   * Takes up a state that state() gave, also one read from a file: on every rank the one of rank 0. On the number of ranks that it was
   * made with training goes on with the same bits; on another with the same batches, and random numbers of their own for ranks that
   * have none in it. Throws FormatError when it is of another model, data or trainer; the model is then unchanged.
   */
  restore(value: unknown): void {
    const state = checkTrainingState(value);
    const { model, optimizer, scheduler, train } = this.options;
    scope(() => {
      const before = Object.entries(model.stateDict()).map(([name, t]): [string, StateSource] => [
        name,
        t.emptyLike().assign(t),
      ]);
      train.state = state.loader;
      model.loadStateDict({ ...(state.model as StateDict), ...this.ownBuffers(state) });
      try {
        optimizer.loadStateDict(state.optimizer as never);
        if (scheduler && state.scheduler !== null) scheduler.loadStateDict(state.scheduler as never);
      } catch (error) {
        model.loadStateDict(new Map(before));
        throw error;
      }
    });
    if (this.stopping && state.stopping) this.stopping.state = state.stopping;
    this.position = state.loader;
    this.restoreRandom(state);
    this.losses = new LossRecord(state.losses);
    this.epochsDone = state.epochsDone;
    this.epochStart = state.epochStart;
    this.seconds = state.seconds;
    this.stepSeconds = state.stepSeconds;
    this.lastEvaluation = state.lastEvaluation;
  }

  /** What this rank had in buffers where others had something else. */
  private ownBuffers({ otherBuffers = [], worldSize = 1 }: TrainingState): RankBuffers {
    const { rank, size } = this.options.communicator;
    return (size === worldSize && otherBuffers[rank - 1]) || {};
  }

  private restoreRandom({ random, otherRandom = [], worldSize = 1, step }: TrainingState): void {
    const { rank, size } = this.options.communicator;
    globalRandom.state = [random, ...otherRandom][rank] ?? randomOfRank(random, rank);
    if (size === worldSize || rank > 0) return;
    const ranks = (n: number) => `${n} rank${n === 1 ? "" : "s"}`;
    console.warn(
      `Trainer: what ${ranks(worldSize)} trained until step ${step} goes on with ${ranks(size)}: the same batches, but ` +
        "dropout and what else is random falls differently, and sums are rounded in another order.",
    );
  }
}
