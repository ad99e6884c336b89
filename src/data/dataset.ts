import type { NumberArray } from "../base/dtype.js";
import { DTypeError, ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { checkShape, formatShape, numberOfElements, type Shape } from "../base/shape.js";

export interface DatasetParts<X extends NumberArray, Y extends NumberArray> {
  /** All samples, one after the other: [N, ...sampleShape], row-major. */
  readonly images: X;
  /** All labels: [N, ...labelShape]. Classes are an Int32Array; targets of a regression may be floats. */
  readonly labels: Y;
  /** Shape of one sample, for example [1, 8, 8]. */
  readonly sampleShape: Shape;
  /** Shape of one label; [] (the default) means one number a sample. */
  readonly labelShape?: Shape;
}

/**
 * Samples and their labels in ordinary memory, as plain typed arrays; a DataLoader makes tensors of them, batch by batch.
 *
 * Shapes: images [N, ...sampleShape], labels [N, ...labelShape], both row-major.
 * Throws: DTypeError for arrays other than Float32Array, Float64Array and Int32Array; ShapeError if images do not
 * divide into whole samples, or if there are more or fewer labels than samples.
 */
export class Dataset<X extends NumberArray = NumberArray, Y extends NumberArray = NumberArray> {
  readonly images: X;
  readonly labels: Y;
  readonly sampleShape: Shape;
  readonly labelShape: Shape;
  /** Number of samples. */
  readonly length: number;

  constructor(parts: DatasetParts<X, Y>) {
    const { images, labels, sampleShape, labelShape } = readOptions<Record<string, unknown>>("Dataset", parts, {
      images: undefined,
      labels: undefined,
      sampleShape: undefined,
      labelShape: [],
    });
    checkArray("images", images);
    checkArray("labels", labels);
    checkShape(sampleShape as Shape, "sampleShape");
    checkShape(labelShape as Shape, "labelShape");
    this.images = images as X;
    this.labels = labels as Y;
    this.sampleShape = [...(sampleShape as Shape)];
    this.labelShape = [...(labelShape as Shape)];
    const perSample = numberOfElements(this.sampleShape);
    const perLabel = numberOfElements(this.labelShape);
    if (perSample === 0 || perLabel === 0) {
      throw new ShapeError({
        rule: "A sample and a label hold at least one number each",
        got: `sampleShape ${formatShape(this.sampleShape)} and labelShape ${formatShape(this.labelShape)}`,
      });
    }
    this.length = this.images.length / perSample;
    if (!Number.isInteger(this.length) || this.labels.length !== this.length * perLabel) {
      throw new ShapeError({
        rule: `images hold N x ${perSample} numbers (sampleShape ${formatShape(this.sampleShape)}) and labels N x ${perLabel}`,
        got: `${this.images.length} and ${this.labels.length} numbers`,
        fix: "sampleShape and labelShape leave out the axis of the samples",
      });
    }
  }

  /**
   * A new dataset of copies of the samples with these numbers, in this order; a number may come more than once.
   * Throws: ShapeError for a number outside 0 .. length - 1.
   */
  subset(indices: ArrayLike<number>): Dataset<X, Y> {
    const perSample = numberOfElements(this.sampleShape);
    const perLabel = numberOfElements(this.labelShape);
    for (let k = 0; k < indices.length; k++) {
      const i = indices[k]!;
      if (!Number.isInteger(i) || i < 0 || i >= this.length) {
        throw new ShapeError({
          rule: `subset() takes sample numbers from 0 to ${this.length - 1}`,
          got: `${i} at place ${k}`,
        });
      }
    }
    const images = emptyLike(this.images, indices.length * perSample);
    const labels = emptyLike(this.labels, indices.length * perLabel);
    gather(this.images, perSample, indices, images);
    gather(this.labels, perLabel, indices, labels);
    return new Dataset({ images, labels, sampleShape: this.sampleShape, labelShape: this.labelShape });
  }
}

/** Images with one whole-number class each. */
export type ImageDataset = Dataset<Float32Array, Int32Array>;

/** What `digits()`, `mnist()` and `cifar10()` give. */
export interface ImageSplits {
  readonly train: ImageDataset;
  readonly test: ImageDataset;
  /** Number of classes; labels lie in 0 .. classes - 1. */
  readonly classes: number;
  /** Shape of one image: [channels, height, width]. */
  readonly imageShape: Shape;
}

/** Copies blocks of `size` numbers, chosen by `indices`, one after the other into `target`. */
export function gather(source: NumberArray, size: number, indices: ArrayLike<number>, target: NumberArray): void {
  if (size === 1) {
    for (let k = 0; k < indices.length; k++) target[k] = source[indices[k]!]!;
    return;
  }
  for (let k = 0; k < indices.length; k++) {
    const start = indices[k]! * size;
    target.set(source.subarray(start, start + size), k * size);
  }
}

export const emptyLike = <A extends NumberArray>(array: A, length: number): A =>
  new (array.constructor as new (length: number) => A)(length);

function checkArray(what: string, value: unknown): void {
  if (value instanceof Float32Array || value instanceof Float64Array || value instanceof Int32Array) return;
  throw new DTypeError({
    rule: `${what} must be a Float32Array, Float64Array or Int32Array`,
    got: Array.isArray(value) ? "an array" : ((value as object | null)?.constructor?.name ?? String(value)),
    fix: "Convert it, for example with Float32Array.from(values)",
  });
}
