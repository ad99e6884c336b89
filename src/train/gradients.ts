import { type Captured, capture, type Tensor } from "../autograd/index.js";
import type { Communicator } from "../base/communicator.js";
import { OptionError } from "../base/errors.js";
import type { NormLayerStatistics } from "../base/events.js";
import { GradientReducer } from "../distributed/gradient_reducer.js";
import { scope } from "../memory/scope.js";
import type { Module } from "../nn/module.js";
import { reducedGradients } from "../nn/norm/synchronized.js";
import type { ReadLoopOptions } from "./loop_options.js";
import { watchNormLayers } from "./norm_statistics.js";
import { type LossFunction, lossFunction, type SourceBatch } from "./parts.js";

/** The loss of a batch as far as it counts for the step's. */
interface Part {
  readonly loss: Tensor;
  readonly weight: number;
}

export interface StepGradients {
  readonly parts: readonly Part[];
  readonly layers: (() => Promise<NormLayerStatistics[]>) | null;
}

/** The gradients of steps: of one batch or several, and of all ranks' parts of them. */
export class Gradients {
  private readonly lossOf: LossFunction;
  private readonly captured: Captured<[Tensor, Tensor], Tensor> | null;
  /** Losses are sums over samples rather than means. */
  private readonly sums: boolean;
  private reducer: GradientReducer | null = null;

  constructor(private readonly options: ReadLoopOptions) {
    this.lossOf = lossFunction(options.loss);
    this.sums = (options.loss as { reduction?: unknown }).reduction === "sum";
    this.captured = options.capture ? capture((x: Tensor, y: Tensor) => this.differentiateAnew(x, y)) : null;
  }

  /** Leaves the gradients of the next step's batches in the parameters; null when the epoch has no batch left. */
  next(batches: Iterator<SourceBatch>, watch: boolean): StepGradients | null {
    const taken = this.take(batches);
    if (taken.length === 0) return null;
    if (watch) {
      const { result, layers } = watchNormLayers(this.options.model, () => this.add(taken));
      return { parts: result, layers };
    }
    return { parts: this.captured ? [this.replay(this.captured, taken[0]!)] : this.add(taken), layers: null };
  }

  /** To be called on all ranks before the first step. */
  open(): void {
    const { communicator, model } = this.options;
    if (communicator.size === 1) return;
    const reduced = reducedGradients(model);
    this.reducer = new GradientReducer(communicator, model.parameters(), { gradients: "sum", reduced });
  }

  /** Lets go of what was captured, and of the other ranks. */
  close(): void {
    this.captured?.dispose();
    this.reducer?.close();
    this.reducer = null;
  }

  private take(batches: Iterator<SourceBatch>): SourceBatch[] {
    const taken: SourceBatch[] = [];
    while (taken.length < this.options.accumulateSteps) {
      const next = batches.next();
      if (next.done) break;
      taken.push(next.value);
    }
    return taken;
  }

  private replay(captured: Captured<[Tensor, Tensor], Tensor>, { x, y }: SourceBatch): Part {
    const { device } = this.options.model;
    return { loss: captured(x.to(device), y.to(device)).detach(), weight: 1 };
  }

  private differentiateAnew(x: Tensor, y: Tensor): Tensor {
    const { model, optimizer } = this.options;
    optimizer.zeroGrad();
    const loss = this.lossOf(model.forward(x), y);
    loss.backward();
    return loss;
  }

  /** The gradient of all batches joined is the sum of theirs, each weighed by its share of all samples. */
  private add(taken: readonly SourceBatch[]): Part[] {
    this.options.optimizer.zeroGrad();
    const samples = taken.reduce((sum, batch) => sum + this.globalSize(batch), 0);
    return taken.map((batch, i) => {
      const part = () => this.differentiate(batch, this.sums ? 1 : batch.size / samples);
      // What adds up on this rank is sent once.
      return this.reducer && i < taken.length - 1 ? this.reducer.noSync(part) : part();
    });
  }

  private globalSize({ size, globalSize }: SourceBatch): number {
    if (this.options.communicator.size === 1) return size;
    if (globalSize !== undefined) return globalSize;
    throw new OptionError({
      rule: "Trainer: with several ranks a batch tells how many samples it has on all of them (globalSize)",
      got: "one that does not",
      fix: "Use a DataLoader with { shard: communicator }",
    });
  }

  private differentiate({ x, y, size }: SourceBatch, weight: number): Part {
    const { model } = this.options;
    return scope(() => {
      if (size === 0) return { loss: passEmpty(model, x), weight: 0 };
      const loss = this.lossOf(model.forward(x.to(model.device)), y.to(model.device));
      (weight === 1 ? loss : loss.mul(weight)).backward();
      return { loss: loss.detach(), weight };
    });
  }
}

/**
 * A rank without samples goes through forward and backward like the others, for layers that call other ranks on the way; to its
 * gradients it adds nothing. Losses of nothing are NaN where they are means, so the sum of no outputs stands for one.
 * Layers with statistics of this rank alone have none to take: they are in evaluation mode meanwhile.
 */
function passEmpty(model: Module, x: Tensor): Tensor {
  const alone = model.modules().filter((module) => module.training && !callsRanks(module));
  for (const module of alone) module.training = false;
  try {
    const nothing = model.forward(x).sum();
    nothing.backward();
    return nothing.detach();
  } finally {
    for (const module of alone) module.training = true;
  }
}

const callsRanks = (module: Module): boolean =>
  ((module as { communicator?: Partial<Communicator> }).communicator?.size ?? 1) > 1;

/** This rank's part of a step's loss, which is the sum over all ranks. */
export async function lossOf({ parts }: StepGradients): Promise<number> {
  let sum = 0;
  // A step reads nothing else back; on the CPU it is there at once.
  for (const { loss, weight } of parts) {
    const value = (await loss.data())[0]!;
    loss.dispose();
    sum += weight === 1 ? value : weight * value;
  }
  return sum;
}
