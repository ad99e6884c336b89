import { tensor } from "../autograd/create.js";
import type { Tensor } from "../autograd/tensor.js";
import { FormatError, OptionError } from "../base/errors.js";
import { checkBoolean, checkPositiveInteger, readOptions } from "../base/options.js";
import { globalRandom, Random, type RandomState } from "../base/random.js";
import { numberOfElements } from "../base/shape.js";
import "../memory/dispose_symbol.js";
import { Dataset, emptyLike, gather } from "./dataset.js";
import { checkSeed } from "./split.js";

export interface DataLoaderOptions {
  /** Samples in a batch. Default 1. */
  readonly batchSize?: number;
  /** A new random order in each epoch instead of the dataset's own. Default false. */
  readonly shuffle?: boolean;
  /** Leaves out the last batch of an epoch if it is smaller than the others. Default false. */
  readonly dropLast?: boolean;
  /** Decides all orders of a shuffling loader. Default: drawn from the generator that manualSeed seeds. */
  readonly seed?: number;
}

/** Some samples as tensors. They live until dispose(), `using`, the scope that is open, or garbage collection. */
export interface Batch {
  /** [size, ...sampleShape] */
  readonly x: Tensor;
  /** [size, ...labelShape]; int32 for classes */
  readonly y: Tensor;
  /** Number of this batch in its epoch, from 0. */
  readonly index: number;
  /** Number of samples in it. */
  readonly size: number;
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Where a loader stands, as plain JSON. */
export interface DataLoaderState {
  /** Epochs that are behind it. */
  readonly epoch: number;
  /** Batches of this epoch that were handed out. */
  readonly position: number;
  /** The generator as this epoch's order was drawn from it; null for a loader that does not shuffle. */
  readonly random: RandomState | null;
  /** Samples and batch size that `position` refers to. */
  readonly samples: number;
  readonly batchSize: number;
}

/**
 * Hands out a dataset in batches. Each `for (const batch of loader)` is one epoch; a loop left early counts as one,
 * so that the next loop starts another.
 *
 * `state` tells the position and takes it back: a loader of the same dataset and options, given the state that was
 * read while batch k was in hand, continues with batch k + 1 and from there on gives the same batches, bit for bit.
 * If k was the last batch of its epoch, the next loop hands out nothing and ends that epoch.
 *
 * Shapes: x [size, ...sampleShape], y [size, ...labelShape], in the types of the dataset's arrays.
 * Warns:  once on the console if the last batch has a single sample, from which batch norm cannot train.
 * Throws: OptionError for what is no Dataset, an unknown option, or a batchSize that is no whole number above 0.
 */
export class DataLoader implements Iterable<Batch> {
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly dropLast: boolean;
  /** Batches in an epoch. */
  readonly length: number;
  /** Size of the last batch of an epoch; 0 if an epoch has none. Batch norm cannot train on 1. */
  readonly lastBatchSize: number;

  private epoch = 0;
  private position = 0;
  private random: RandomState | null;
  private nextRandom: RandomState | null;
  private resumed = false;
  private turn = 0;

  constructor(
    readonly dataset: Dataset,
    options?: DataLoaderOptions,
  ) {
    if (!(dataset instanceof Dataset)) throw notADataset(dataset);
    const defaults = { batchSize: 1, shuffle: false, dropLast: false, seed: undefined as number | undefined };
    const { batchSize, shuffle, dropLast, seed } = readOptions("DataLoader", options, defaults);
    this.batchSize = checkPositiveInteger("batchSize", batchSize);
    this.shuffle = checkBoolean("shuffle", shuffle);
    this.dropLast = checkBoolean("dropLast", dropLast);
    if (seed !== undefined) checkSeed(seed);
    this.random = shuffle ? new Random(seed ?? globalRandom.bits()).state : null;
    this.nextRandom = this.random;
    const whole = Math.floor(dataset.length / batchSize);
    const rest = dataset.length % batchSize;
    this.length = dropLast || rest === 0 ? whole : whole + 1;
    this.lastBatchSize = this.length === whole ? Math.min(whole, 1) * batchSize : rest;
    if (rest === 1 && !dropLast) warnOfSingle(dataset.length, batchSize);
  }

  get state(): DataLoaderState {
    const { epoch, position, random, batchSize } = this;
    return { epoch, position, random, samples: this.dataset.length, batchSize };
  }

  /** Throws FormatError for a state of another dataset, of other options, or that is none. */
  set state(state: DataLoaderState) {
    const { epoch, position, random, samples, batchSize } = checkState(state);
    if ((random !== null) !== this.shuffle) {
      throw new FormatError({
        rule: "The position of a shuffling loader holds its random state, that of another holds none",
        got: `${random ? "a random state" : "none"} for a loader with shuffle: ${this.shuffle}`,
      });
    }
    const same = samples === this.dataset.length && batchSize === this.batchSize && position <= this.length;
    if (position > 0 && !same) {
      throw new FormatError({
        rule: `A position inside an epoch fits a loader with the same data and options (${this.dataset.length} samples in batches of ${this.batchSize})`,
        got: `position ${position} among ${samples} samples in batches of ${batchSize}`,
        fix: "Resume with the dataset and the batchSize of the first run",
      });
    }
    if (random) new Random().state = random; // its check
    this.epoch = epoch;
    this.position = position;
    this.random = random;
    this.resumed = true;
    this.turn++;
  }

  *[Symbol.iterator](): Generator<Batch, void, undefined> {
    const { dataset, batchSize } = this;
    if (this.position > 0 && !this.resumed) this.finishEpoch();
    this.resumed = false;
    // Of several loops at once, the newest one keeps the state.
    const turn = ++this.turn;
    const order = this.drawOrder();
    // tensor() copies to the heap, so one pair of arrays serves all batches.
    const perSample = numberOfElements(dataset.sampleShape);
    const perLabel = numberOfElements(dataset.labelShape);
    const images = emptyLike(dataset.images, batchSize * perSample);
    const labels = emptyLike(dataset.labels, batchSize * perLabel);
    for (let index = this.position; index < this.length; index++) {
      const indices = order.subarray(index * batchSize, (index + 1) * batchSize);
      const size = indices.length;
      gather(dataset.images, perSample, indices, images);
      gather(dataset.labels, perLabel, indices, labels);
      if (this.turn === turn) this.position = index + 1;
      yield batch(
        tensor(images.subarray(0, size * perSample), { shape: [size, ...dataset.sampleShape] }),
        tensor(labels.subarray(0, size * perLabel), { shape: [size, ...dataset.labelShape] }),
        index,
        size,
      );
    }
    if (this.turn === turn) this.finishEpoch();
  }

  private drawOrder(): Int32Array {
    const n = this.dataset.length;
    if (!this.random) return Int32Array.from({ length: n }, (_, i) => i);
    const random = new Random();
    random.state = this.random;
    const order = random.permutation(n);
    this.nextRandom = random.state;
    return order;
  }

  private finishEpoch(): void {
    this.epoch++;
    this.position = 0;
    this.random = this.nextRandom;
  }
}

function batch(x: Tensor, y: Tensor, index: number, size: number): Batch {
  const dispose = () => {
    x.dispose();
    y.dispose();
  };
  return { x, y, index, size, dispose, [Symbol.dispose]: dispose };
}

function checkState(state: unknown): DataLoaderState {
  const { epoch, position, random, samples, batchSize } = (state ?? {}) as Record<string, unknown>;
  const counts = [epoch, position, samples, batchSize];
  if (counts.every((n) => Number.isSafeInteger(n) && (n as number) >= 0) && typeof random === "object") {
    return state as DataLoaderState;
  }
  throw new FormatError({
    rule: "The position of a DataLoader holds the whole numbers epoch, position, samples and batchSize, and random",
    got: JSON.stringify(state) ?? "nothing",
  });
}

function notADataset(value: unknown): OptionError {
  const isSplits = typeof value === "object" && value !== null && "train" in value && "test" in value;
  return new OptionError({
    rule: "DataLoader takes a Dataset",
    got: isSplits ? "an object with train and test" : String(value),
    fix: isSplits
      ? "Give it one of the two, for example digits().train"
      : "Make one with new Dataset({ images, labels, sampleShape })",
  });
}

const warned = new Set<string>();

function warnOfSingle(samples: number, batchSize: number): void {
  if (batchSize === 1) return;
  const key = `${samples}/${batchSize}`;
  if (warned.has(key)) return;
  warned.add(key);
  console.warn(
    `DataLoader: ${samples} samples in batches of ${batchSize} leave a last batch of one sample, from which batch norm ` +
      "cannot train: one value a channel has no variance. Give a training loader dropLast: true or another batchSize; " +
      "evaluation is not affected.",
  );
}
