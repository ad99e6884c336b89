import { tensor } from "../autograd/create.js";
import type { Tensor } from "../autograd/tensor.js";
import { FormatError, OptionError } from "../base/errors.js";
import { checkBoolean, checkNumber, checkPositiveInteger, readOptions } from "../base/options.js";
import { globalRandom, Random, type RandomState } from "../base/random.js";
import { numberOfElements } from "../base/shape.js";
import "../memory/dispose_symbol.js";
import { Dataset, emptyLike, gather } from "./dataset.js";
import { checkSeed } from "./split.js";

/** Which of several ranks a loader works for; a Communicator is one. */
export interface Shard {
  /** 0 to size - 1 */
  readonly rank: number;
  readonly size: number;
}

export interface DataLoaderOptions {
  /** Samples in a batch, that of all ranks together. Default 1. */
  readonly batchSize?: number;
  /** A new random order in each epoch instead of the dataset's own. Default false. */
  readonly shuffle?: boolean;
  /** Leaves out the last batch of an epoch if it is smaller than the others. Default false. */
  readonly dropLast?: boolean;
  /**
   * Decides all orders of a shuffling loader. Default: drawn from the generator that manualSeed seeds. Needed to shuffle for several
   * ranks, whose generators may differ.
   */
  readonly seed?: number;
  /**
   * Of every batch of n samples this rank gets those from floor(rank * n / size) to floor((rank + 1) * n / size), which are none at a
   * small end. Every rank makes its loader with the same other options. Default: all of them.
   */
  readonly shard?: Shard;
}

/** Some samples as tensors. They live until dispose(), `using`, the scope that is open, or garbage collection. */
export interface Batch {
  /** [size, ...sampleShape] */
  readonly x: Tensor;
  /** [size, ...labelShape]; int32 for classes */
  readonly y: Tensor;
  /** Number of this batch in its epoch, from 0. */
  readonly index: number;
  /** Number of samples in it: this rank's, which may be 0 where the loader has a shard. */
  readonly size: number;
  /** Number of samples of this batch on all ranks together. */
  readonly globalSize: number;
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Where a loader stands, as plain JSON; the same on all ranks, and for any number of them. */
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
 * With `shard` the loaders of all ranks go through the same batches together, each handing out its part of every one; the
 * parts are those of one order of samples, so that another number of ranks learns from the same batches.
 *
 * Shapes: x [size, ...sampleShape], y [size, ...labelShape], in the types of the dataset's arrays.
 * Warns:  once on the console (that of rank 0) if the last batch has a single sample, from which batch norm cannot train, or
 *         leaves a rank with less than two, from which only synchronized batch norm can.
 * Throws: OptionError for what is no Dataset, an unknown option, a batchSize that is no whole number above 0, a rank outside its
 *         shard, or shuffling for several ranks without a seed.
 */
export class DataLoader implements Iterable<Batch> {
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly dropLast: boolean;
  /** Batches in an epoch. */
  readonly length: number;
  /** Size of the last batch of an epoch, on all ranks together; 0 if an epoch has none. Batch norm cannot train on 1. */
  readonly lastBatchSize: number;
  readonly shard: Shard;

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
    const o = readOptions("DataLoader", options, {
      batchSize: 1,
      shuffle: false,
      dropLast: false,
      seed: undefined as number | undefined,
      shard: { rank: 0, size: 1 } as Shard,
    });
    this.batchSize = checkPositiveInteger("batchSize", o.batchSize);
    this.shuffle = checkBoolean("shuffle", o.shuffle);
    this.dropLast = checkBoolean("dropLast", o.dropLast);
    this.shard = checkShard(o.shard);
    if (o.seed !== undefined) checkSeed(o.seed);
    else if (this.shuffle && this.shard.size > 1) throw orderOfItsOwn(this.shard);
    this.random = this.shuffle ? new Random(o.seed ?? globalRandom.bits()).state : null;
    this.nextRandom = this.random;
    const whole = Math.floor(dataset.length / this.batchSize);
    const rest = dataset.length % this.batchSize;
    this.length = this.dropLast || rest === 0 ? whole : whole + 1;
    this.lastBatchSize = this.length === whole ? Math.min(whole, 1) * this.batchSize : rest;
    if (this.length > whole) warnOfSmallEnd(dataset.length, this.batchSize, this.shard);
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
    const { dataset, batchSize, shard } = this;
    if (this.position > 0 && !this.resumed) this.finishEpoch();
    this.resumed = false;
    // Of several loops at once, the newest one keeps the state.
    const turn = ++this.turn;
    const order = this.drawOrder();
    // tensor() copies to the heap, so one pair of arrays serves all batches.
    const perSample = numberOfElements(dataset.sampleShape);
    const perLabel = numberOfElements(dataset.labelShape);
    const most = Math.ceil(batchSize / shard.size);
    const images = emptyLike(dataset.images, most * perSample);
    const labels = emptyLike(dataset.labels, most * perLabel);
    for (let index = this.position; index < this.length; index++) {
      const all = order.subarray(index * batchSize, (index + 1) * batchSize);
      const indices = all.subarray(partStart(all.length, shard, 0), partStart(all.length, shard, 1));
      const size = indices.length;
      gather(dataset.images, perSample, indices, images);
      gather(dataset.labels, perLabel, indices, labels);
      if (this.turn === turn) this.position = index + 1;
      yield batch(
        tensor(images.subarray(0, size * perSample), { shape: [size, ...dataset.sampleShape] }),
        tensor(labels.subarray(0, size * perLabel), { shape: [size, ...dataset.labelShape] }),
        index,
        size,
        all.length,
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

/** Where the part of `rank + after` begins among n samples. */
const partStart = (n: number, { rank, size }: Shard, after: number): number => Math.floor(((rank + after) * n) / size);

function batch(x: Tensor, y: Tensor, index: number, size: number, globalSize: number): Batch {
  const dispose = () => {
    x.dispose();
    y.dispose();
  };
  return { x, y, index, size, globalSize, dispose, [Symbol.dispose]: dispose };
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

function checkShard(shard: Shard): Shard {
  const { rank, size } = readShard(shard);
  checkPositiveInteger("shard: size", size);
  checkNumber(
    "shard: rank",
    rank,
    `a whole number from 0 to ${size - 1}`,
    (r) => Number.isInteger(r) && r >= 0 && r < size,
  );
  return { rank, size };
}

function readShard(shard: unknown): Shard {
  if (typeof shard === "object" && shard !== null) return shard as Shard;
  throw new OptionError({
    rule: "shard is a rank among a number of them",
    got: String(shard),
    fix: "Pass a Communicator, or { rank: 0, size: 4 }",
  });
}

const orderOfItsOwn = ({ size }: Shard): OptionError =>
  new OptionError({
    rule: "A loader that shuffles for several ranks needs a seed: all ranks must draw the same order",
    got: `shuffle: true without one for ${size} ranks`,
    fix: "Pass the same number as seed on every rank",
  });

const warned = new Set<string>();

/** Says what a last batch that is smaller than the others keeps batch norm from; a batch size that does so itself was chosen. */
function warnOfSmallEnd(samples: number, batchSize: number, { rank, size }: Shard): void {
  const rest = samples % batchSize;
  const tooFew = rest < 2 * size && (rest === 1 || batchSize >= 2 * size);
  const key = `${samples}/${batchSize}/${size}`;
  if (!tooFew || rank > 0 || warned.has(key)) return;
  warned.add(key);
  const last = rest === 1 ? "one sample" : `${rest} samples for ${size} ranks`;
  const why =
    rest === 1
      ? "from which batch norm cannot train: one value a channel has no variance"
      : "of which a rank gets one or none, from which batch norm cannot train unless it is synchronized";
  console.warn(
    `DataLoader: ${samples} samples in batches of ${batchSize} leave a last batch of ${last}, ${why}. ` +
      "Give a training loader dropLast: true or another batchSize; evaluation is not affected.",
  );
}
