import { join } from "node:path";
import { FormatError } from "../base/errors.js";
import { Dataset, type ImageDataset, type ImageSplits } from "./dataset.js";
import { count, type DataFile, DataFolder } from "./folder.js";
import { scalePixels } from "./pixels.js";

const classes = 10;
const imageShape = [3, 32, 32];
const pixels = 3 * 32 * 32;
const recordSize = 1 + pixels;
const unpackedFolder = "cifar-10-batches-bin";
const trainNames = [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`);
const expected = `${trainNames.join(", ")} and test_batch.bin (the binary version, as cifar-10-binary.tar.gz unpacks)`;

/**
 * CIFAR-10, the binary version, from a folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin, or from
 * the folder around `cifar-10-batches-bin`. Reads synchronously; as float32 the 60,000 images take 737 MB.
 *
 * Shapes: images float32 [N, 3, 32, 32] (red, green, blue), labels int32 [N].
 * Units:  0 is dark, 1 full light (bytes divided by 255); labels are 0 to 9.
 * Throws: FormatError for a missing file, one that is no whole number of 3,073-byte records, or a label over 9.
 */
export function cifar10(folder: string | URL): ImageSplits {
  let source = new DataFolder(folder, expected);
  if (source.names.includes(unpackedFolder)) source = new DataFolder(join(source.path, unpackedFolder), expected);
  if (source.names.includes("data_batch_1") && !source.names.includes("data_batch_1.bin")) {
    throw new FormatError({
      rule: "cifar10 reads the binary version of CIFAR-10",
      got: `the Python version in ${source.path}`,
      fix: "Unpack cifar-10-binary.tar.gz instead",
    });
  }
  const train = readRecords(trainNames.map((name) => source.read(name)));
  const test = readRecords([source.read("test_batch.bin")]);
  return { train, test, classes, imageShape };
}

/** A record is one byte of label, then 1,024 bytes each of red, green and blue. */
function readRecords(files: readonly DataFile[]): ImageDataset {
  for (const { path, bytes } of files) {
    if (bytes.length === 0 || bytes.length % recordSize !== 0) {
      throw new FormatError({
        rule: `A CIFAR-10 file consists of whole records of ${count(recordSize)} bytes`,
        got: `${path} with ${count(bytes.length)} bytes`,
        fix: "It is cut short or another file: unpack cifar-10-binary.tar.gz again",
      });
    }
  }
  const n = files.reduce((sum, file) => sum + file.bytes.length / recordSize, 0);
  const images = new Float32Array(n * pixels);
  const labels = new Int32Array(n);
  let at = 0;
  for (const { path, bytes } of files) {
    for (let start = 0; start < bytes.length; start += recordSize) {
      const label = bytes[start]!;
      if (label >= classes) {
        throw new FormatError({
          rule: `Labels lie in 0 to ${classes - 1}`,
          got: `${label} in record ${count(start / recordSize)} of ${path}`,
          fix: "The file is damaged, or holds another dataset",
        });
      }
      labels[at] = label;
      scalePixels(bytes.subarray(start + 1, start + recordSize), images, at * pixels);
      at++;
    }
  }
  return new Dataset({ images, labels, sampleShape: imageShape });
}
