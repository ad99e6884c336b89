import { F, manualSeed, noGrad, optim, scope, type Tensor, tensor } from "evenkeel";
import { type Batch, DataLoader, digits } from "evenkeel/data";
import { type Evaluation, evaluate } from "evenkeel/train";
import { DigitsNet } from "./model.js";
import { normalizations } from "./normalizations.js";
import type { Device, Settings } from "./settings.js";
import { type LayerStatistics, LayerWatch } from "./statistics.js";

const SEED = 0;
const EVALUATION_BATCH = 360;

/** What one step gives, as soon as the device has done it. */
export interface StepResult {
  readonly step: number;
  readonly loss: number;
  /** Null unless it was asked for. */
  readonly layers: readonly LayerStatistics[] | null;
}

/** A model in training: it keeps its weights when the device, the batch size or the learning rate changes. */
export class Training {
  step = 0;
  private readonly splits = digits();
  private readonly model: DigitsNet;
  private readonly optimizer: optim.AdamW;
  private readonly test = new DataLoader(this.splits.test, { batchSize: EVALUATION_BATCH });
  private loader: DataLoader;
  private batches: Iterator<Batch> | null = null;

  constructor({ normalization, batchSize, learningRate }: Settings) {
    manualSeed(SEED);
    this.model = new DigitsNet(normalizations[normalization]);
    this.optimizer = new optim.AdamW(optim.weightDecayGroups(this.model, 0.01), { lr: learningRate });
    this.loader = this.loaderOf(batchSize);
  }

  get device(): Device {
    return this.model.device;
  }

  get epoch(): number {
    return this.loader.state.epoch + 1;
  }

  get parameters(): number {
    return this.model.parameters().reduce((n, p) => n + p.size, 0);
  }

  set learningRate(lr: number) {
    for (const group of this.optimizer.paramGroups) group.lr = lr;
  }

  set batchSize(size: number) {
    if (size === this.loader.batchSize) return;
    this.loader = this.loaderOf(size);
    this.batches = null;
  }

  /** Weights, running statistics and the optimizer's moments go along. The device must be there. */
  async moveTo(device: Device): Promise<void> {
    if (device === "cpu") await Promise.all([this.model.toCPU(), this.optimizer.toCPU()]);
    else this.optimizer.to(this.model.to(device).device);
  }

  /** Queues one step; on a GPU the promise is kept later, and the next step may be queued before it is. */
  takeStep(watched: boolean): Promise<StepResult> {
    const step = ++this.step;
    const watch = watched ? new LayerWatch() : null;
    this.model.train();
    const made = scope(() => {
      const { x, y } = this.nextBatch();
      this.optimizer.zeroGrad();
      const loss = F.crossEntropy(this.model.forward(x.to(this.device), watch?.watch), y.to(this.device));
      loss.backward();
      const layers = watch?.collect(this.model) ?? null;
      this.optimizer.step();
      return { loss: loss.detach(), layers };
    });
    return this.read(step, made, watch);
  }

  private async read(
    step: number,
    { loss, layers }: { loss: Tensor; layers: Tensor | null },
    watch: LayerWatch | null,
  ): Promise<StepResult> {
    const [value, numbers] = await Promise.all([loss.data(), layers?.data()]);
    loss.dispose();
    layers?.dispose();
    return { step, loss: value[0]!, layers: watch && numbers ? watch.read(this.model, numbers) : null };
  }

  /** Loss and accuracy on the digits that are kept for testing. */
  evaluate(): Promise<Evaluation> {
    return evaluate(this.model, F.crossEntropy, this.test);
  }

  /** The probability of each digit for one image of 8 x 8. */
  async classify(pixels: Float32Array): Promise<Float32Array> {
    this.model.eval();
    const output = scope(() =>
      noGrad(() => F.softmax(this.model.forward(tensor(pixels, { shape: [1, 1, 8, 8] }).to(this.device)), 1)),
    );
    const values = await output.data();
    output.dispose();
    return Float32Array.from(values);
  }

  dispose(): void {
    this.model.dispose();
    this.optimizer.dispose();
  }

  private nextBatch(): Batch {
    for (;;) {
      this.batches ??= this.loader[Symbol.iterator]();
      const next = this.batches.next();
      if (!next.done) return next.value;
      this.batches = null;
    }
  }

  private loaderOf(batchSize: number): DataLoader {
    return new DataLoader(this.splits.train, { batchSize, shuffle: true, dropLast: true, seed: SEED });
  }
}
