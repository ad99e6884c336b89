import { FormatError } from "../base/errors.js";
import { formatShape, sameShape } from "../base/shape.js";
import { Dataset, type ImageDataset, type ImageSplits } from "./dataset.js";
import { count, DataFolder } from "./folder.js";
import { parseIdx } from "./idx.js";
import { scalePixels } from "./pixels.js";

const classes = 10;
const expected =
  "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz";

/**
 * MNIST or Fashion-MNIST (their files have the same names and format) from a folder with the four IDX files,
 * plain or .gz; names with a dot before idx are found too. Reads synchronously.
 *
 * Shapes: images float32 [N, 1, H, W] with H and W from the file (28), labels int32 [N].
 * Units:  0 is background, 1 full ink (bytes divided by 255); labels are 0 to 9.
 * Throws: FormatError for a missing, cut or damaged file, images and labels that differ in number, a label over 9,
 * or test images of another size.
 */
export function mnist(folder: string | URL): ImageSplits {
  const source = new DataFolder(folder, expected);
  const train = readPart(source, "train");
  const test = readPart(source, "t10k");
  if (!sameShape(train.sampleShape, test.sampleShape)) {
    throw new FormatError({
      rule: "Training and test images have the same size",
      got: `${formatShape(train.sampleShape)} and ${formatShape(test.sampleShape)} in ${source.path}`,
      fix: "The files belong to different datasets: keep each dataset in a folder of its own",
    });
  }
  return { train, test, classes, imageShape: train.sampleShape };
}

function readPart(source: DataFolder, part: "train" | "t10k"): ImageDataset {
  const imageFile = source.read(`${part}-images-idx3-ubyte`, `${part}-images.idx3-ubyte`);
  const labelFile = source.read(`${part}-labels-idx1-ubyte`, `${part}-labels.idx1-ubyte`);
  const { shape, values } = parseIdx(imageFile, 3);
  const [n, height, width] = shape as [number, number, number];
  const labelBytes = parseIdx(labelFile, 1).values;
  if (labelBytes.length !== n) {
    throw new FormatError({
      rule: "There is one label for each image",
      got: `${count(n)} images in ${imageFile.path} and ${count(labelBytes.length)} labels in ${labelFile.path}`,
      fix: "The files belong to different datasets: download both again",
    });
  }
  const wrong = labelBytes.findIndex((label) => label >= classes);
  if (wrong >= 0) {
    throw new FormatError({
      rule: `Labels lie in 0 to ${classes - 1}`,
      got: `${labelBytes[wrong]} for image ${count(wrong)} in ${labelFile.path}`,
      fix: "The file is damaged, or holds another dataset",
    });
  }
  const images = new Float32Array(values.length);
  scalePixels(values, images, 0);
  return new Dataset({ images, labels: Int32Array.from(labelBytes), sampleShape: [1, height, width] });
}
