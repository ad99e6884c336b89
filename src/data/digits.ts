import { readOptions } from "../base/options.js";
import { Dataset, type ImageSplits } from "./dataset.js";
import { digitsText } from "./generated/digits_text.js";
import { type SplitOptions, splitDefaults, stratifiedSplit } from "./split.js";

const pixels = 64;
const brightest = 16;

/**
 * 1,797 handwritten digits of 8 x 8 pixels, part of the package: no file, no network, also in a browser.
 * By default 1,437 are for training and 360 for testing, with the classes in equal proportion in both.
 *
 * Origin: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
 * 1998, doi 10.24432/C50P49, licence CC BY 4.0 (this is its test part). Changed: pixel counts are divided by 16.
 *
 * Shapes: images float32 [N, 1, 8, 8], labels int32 [N].
 * Units:  share of ink in a 4 x 4 block of the original bitmap, 0 to 1 in steps of 1/16; labels are 0 to 9.
 * Throws: OptionError for a testFraction outside [0, 1) or an unknown option.
 */
export function digits(options?: SplitOptions): ImageSplits {
  const split = readOptions("digits", options, splitDefaults);
  const lines = digitsText.split("\n");
  const images = new Float32Array(lines.length * pixels);
  const labels = new Int32Array(lines.length);
  lines.forEach((line, n) => {
    for (let i = 0; i < pixels; i++) images[n * pixels + i] = base17(line.charCodeAt(i)) / brightest;
    labels[n] = base17(line.charCodeAt(pixels));
  });
  const imageShape = [1, 8, 8];
  const all = new Dataset({ images, labels, sampleShape: imageShape });
  return { ...stratifiedSplit(all, split), classes: 10, imageShape };
}

/** "0" to "9", then "a" (10) to "g" (16). */
const base17 = (code: number): number => (code < 58 ? code - 48 : code - 87);
