import type { NumberArray } from "../base/dtype.js";
import { OptionError, ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { formatShape, numberOfElements, type Shape } from "../base/shape.js";
import { Dataset } from "./dataset.js";

/** A number for each channel (the first axis of a sample). */
export interface ChannelStatistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/**
 * Mean and standard deviation (biased, over all samples and places) of each channel, in the units of the images.
 * Two passes in double precision.
 * Throws: ShapeError for a dataset without samples or whose samples have no axis.
 */
export function channelStatistics(dataset: Dataset): ChannelStatistics {
  const channels = channelsOf(dataset.sampleShape);
  if (dataset.length === 0) {
    throw new ShapeError({ rule: "Statistics need at least one sample", got: "an empty dataset" });
  }
  const { images } = dataset;
  const places = numberOfElements(dataset.sampleShape) / channels;
  const n = dataset.length * places;
  const mean = new Array<number>(channels).fill(0);
  const variance = new Array<number>(channels).fill(0);
  forEachRun(images.length, places, channels, (c, from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += images[i]!;
    mean[c]! += sum / n;
  });
  forEachRun(images.length, places, channels, (c, from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += (images[i]! - mean[c]!) ** 2;
    variance[c]! += sum / n;
  });
  return { mean, std: variance.map(Math.sqrt) };
}

/**
 * A new dataset with (image - mean) / std in float32; labels are shared. One number serves all channels.
 * Take the statistics from the training part for both parts: `normalize(test, channelStatistics(train))`.
 * Throws: OptionError for a mean that is not finite, a std that is not finite and above 0, or a list whose length is
 * not the number of channels.
 */
export function normalize<Y extends NumberArray>(
  dataset: Dataset<NumberArray, Y>,
  options: { readonly mean: number | readonly number[]; readonly std: number | readonly number[] },
): Dataset<Float32Array, Y> {
  const { mean, std } = readOptions<Record<string, unknown>>("normalize", options, { mean: undefined, std: undefined });
  const channels = channelsOf(dataset.sampleShape);
  const means = perChannel("mean", mean, channels, "finite", Number.isFinite);
  const stds = perChannel("std", std, channels, "finite and above 0", (v) => Number.isFinite(v) && v > 0);
  const places = numberOfElements(dataset.sampleShape) / channels;
  const images = new Float32Array(dataset.images.length);
  forEachRun(images.length, places, channels, (c, from, to) => {
    const shift = means[c]!;
    const scale = stds[c]!;
    for (let i = from; i < to; i++) images[i] = (dataset.images[i]! - shift) / scale;
  });
  const { labels, sampleShape, labelShape } = dataset;
  return new Dataset({ images, labels, sampleShape, labelShape });
}

/** Calls `body` for each stretch of `places` numbers, which belong to one channel of one sample. */
function forEachRun(
  length: number,
  places: number,
  channels: number,
  body: (channel: number, from: number, to: number) => void,
): void {
  for (let from = 0, run = 0; from < length; from += places, run++) body(run % channels, from, from + places);
}

function channelsOf(sampleShape: Shape): number {
  if (sampleShape.length > 0) return sampleShape[0]!;
  throw new ShapeError({ rule: "A sample with channels has at least one axis", got: formatShape(sampleShape) });
}

function perChannel(what: string, value: unknown, channels: number, where: string, test: (v: number) => boolean) {
  const list: unknown[] = Array.isArray(value) ? value : new Array(channels).fill(value);
  if (list.length !== channels || !list.every((v) => typeof v === "number" && test(v))) {
    throw new OptionError({
      rule: `${what} must be a number or a list of ${channels} (one a channel), each ${where}`,
      got: JSON.stringify(value) ?? "nothing",
      ...(what === "std" ? { fix: "A channel that never changes has std 0: give 1 for it" } : {}),
    });
  }
  return list as number[];
}
