import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FormatError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { cifar10 } from "./cifar10.js";
import { mnist } from "./mnist.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-data-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (name: string, bytes: Uint8Array) => writeFileSync(join(folder, name), bytes);
const random = new Random(11);
const noise = (n: number, below = 256) => Uint8Array.from({ length: n }, () => random.below(below));

/** What the loader throws, checked to be a FormatError that says where and what. */
function complaint(load: (folder: string) => unknown): string {
  try {
    load(folder);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain(folder);
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
}

describe("mnist", () => {
  const idx = (shape: number[], values: Uint8Array, type = 8) => {
    const bytes = new Uint8Array(4 + 4 * shape.length + values.length);
    bytes.set([0, 0, type, shape.length]);
    for (const [i, d] of shape.entries()) new DataView(bytes.buffer).setUint32(4 + 4 * i, d);
    bytes.set(values, 4 + 4 * shape.length);
    return bytes;
  };
  const trainPixels = noise(3 * 5 * 4);
  const testPixels = noise(2 * 5 * 4);
  const parts: [string, Uint8Array][] = [
    ["train-images-idx3-ubyte", idx([3, 5, 4], trainPixels)],
    ["train-labels-idx1-ubyte", idx([3], Uint8Array.of(9, 0, 4))],
    ["t10k-images-idx3-ubyte", idx([2, 5, 4], testPixels)],
    ["t10k-labels-idx1-ubyte", idx([2], Uint8Array.of(1, 1))],
  ];
  const [trainImages, trainLabels] = [parts[0]![0], parts[1]![0]];

  test.each<[string, (name: string, bytes: Uint8Array) => [string, Uint8Array]]>([
    ["plain", (name, bytes) => [name, bytes]],
    [".gz", (name, bytes) => [`${name}.gz`, gzipSync(bytes)]],
    ["dotted names", (name, bytes) => [name.replace("-idx", ".idx"), bytes]],
    ["dotted names and .gz", (name, bytes) => [`${name.replace("-idx", ".idx")}.gz`, gzipSync(bytes)]],
    ["unpacked under the name .gz", (name, bytes) => [`${name}.gz`, bytes]],
    ["packed under the plain name", (name, bytes) => [name, gzipSync(bytes)]],
  ])("reads %s", (_, change) => {
    for (const [name, bytes] of parts) write(...change(name, bytes));
    const data = mnist(folder);
    expect(data.imageShape).toEqual([1, 5, 4]);
    expect(data.classes).toBe(10);
    expect([...data.train.labels, ...data.test.labels]).toEqual([9, 0, 4, 1, 1]);
    expect(data.train.images).toEqual(Float32Array.from(trainPixels, (v) => v / 255));
    expect(data.test.images).toEqual(Float32Array.from(testPixels, (v) => v / 255));
  });

  test("takes a file: URL", () => {
    for (const [name, bytes] of parts) write(name, bytes);
    expect(mnist(pathToFileURL(folder)).test.length).toBe(2);
  });

  const all = (replace: Record<string, Uint8Array | null> = {}) => {
    for (const [name, bytes] of parts) {
      const other = replace[name];
      if (other !== null) write(name, other ?? bytes);
    }
  };

  test("a missing folder, an empty one and a file in its place", () => {
    expect(complaint((f) => mnist(join(f, "none")))).toMatch(/folder with train-images-idx3-ubyte.*ENOENT/);
    expect(complaint(mnist)).toMatch(/nothing in it.*t10k-labels-idx1-ubyte, plain or \.gz/);
    write("file", Uint8Array.of(1));
    expect(complaint((f) => mnist(join(f, "file")))).toMatch(/ENOTDIR/);
  });

  test("a missing file, with what the folder holds", () => {
    all({ "t10k-labels-idx1-ubyte": null });
    expect(complaint(mnist)).toMatch(/^t10k-labels-idx1-ubyte or .*t10k-images-idx3-ubyte, train-images/);
  });

  test("a folder in a file's place", () => {
    all({ [trainLabels]: null });
    mkdirSync(join(folder, trainLabels));
    expect(complaint(mnist)).toMatch(/readable.*EISDIR/);
  });

  test("a file cut at any length", () => {
    const whole = parts[0]![1];
    for (let length = 0; length < whole.length; length++) {
      all({ [trainImages]: whole.slice(0, length) });
      expect(complaint(mnist)).toMatch(/cut short/);
    }
    all({ [trainImages]: Uint8Array.of(...whole, 0) });
    expect(complaint(mnist)).toMatch(/has 76 bytes; got .* with 77 bytes/);
  });

  test("a .gz cut at any length or changed in its data", () => {
    const packed = gzipSync(parts[0]![1]);
    all({ [trainImages]: null });
    // One byte alone cannot be told from a plain file; that is refused as a cut header instead.
    for (let length = 0; length < packed.length; length++) {
      write(`${trainImages}.gz`, packed.subarray(0, length));
      expect(complaint(mnist)).toMatch(/cut short/);
    }
    const changed = Uint8Array.from(packed);
    changed[packed.length - 6]! ^= 1; // in the checksum
    write(`${trainImages}.gz`, changed);
    expect(complaint(mnist)).toMatch(/must unpack whole.*damaged/);
  });

  test("other first bytes, and images and labels that changed names", () => {
    all({ [trainImages]: idx([3, 5, 4], trainPixels, 13) });
    expect(complaint(mnist)).toMatch(/starts with the bytes 00 00 08 03; got 00 00 0d 03/);
    all({ [trainImages]: idx([60], noise(60)) });
    expect(complaint(mnist)).toMatch(/changed names/);
  });

  test("lengths of 0 and lengths whose product overflows 32 bits", () => {
    all({ [trainImages]: idx([0, 5, 4], new Uint8Array()) });
    expect(complaint(mnist)).toMatch(/above 0; got 0 x 5 x 4/);
    all({ [trainImages]: idx([2 ** 31, 2, 2 ** 31], trainPixels) });
    expect(complaint(mnist)).toMatch(/cut short/);
  });

  test("counts that differ, labels over 9, test images of another size", () => {
    all({ [trainLabels]: idx([2], Uint8Array.of(1, 2)) });
    expect(complaint(mnist)).toMatch(/one label for each image; got 3 images .* 2 labels/);
    all({ [trainLabels]: idx([3], Uint8Array.of(1, 10, 2)) });
    expect(complaint(mnist)).toMatch(/0 to 9; got 10 for image 1/);
    all({ "t10k-images-idx3-ubyte": idx([2, 4, 5], testPixels) });
    expect(complaint(mnist)).toMatch(/\[1, 5, 4\] and \[1, 4, 5\]/);
  });
});

describe("cifar10", () => {
  const records = (labels: number[]) => {
    const bytes = noise(labels.length * 3073);
    labels.forEach((label, i) => {
      bytes[i * 3073] = label;
    });
    return bytes;
  };
  const files: [string, Uint8Array][] = [
    ["data_batch_1.bin", records([3, 9])],
    ["data_batch_2.bin", records([0])],
    ["data_batch_3.bin", records([5])],
    ["data_batch_4.bin", records([6, 7, 8])],
    ["data_batch_5.bin", records([1])],
    ["test_batch.bin", records([2, 4])],
  ];
  const all = (sub = "") => {
    for (const [name, bytes] of files) write(join(sub, name), bytes);
  };

  test("reads the batches in order, from the folder or from the one around it", () => {
    mkdirSync(join(folder, "cifar-10-batches-bin"));
    all("cifar-10-batches-bin");
    const data = cifar10(folder);
    expect(data.train.sampleShape).toEqual([3, 32, 32]);
    expect([...data.train.labels]).toEqual([3, 9, 0, 5, 6, 7, 8, 1]);
    expect([...data.test.labels]).toEqual([2, 4]);
    const pixels = files.slice(0, 5).flatMap(([, bytes]) => [...bytes].filter((_, i) => i % 3073 !== 0));
    expect(data.train.images).toEqual(Float32Array.from(pixels, (v) => v / 255));
    expect(cifar10(join(folder, "cifar-10-batches-bin")).train.images).toEqual(data.train.images);
  });

  test("a missing batch, and the Python version of the files", () => {
    expect(complaint(cifar10)).toMatch(/data_batch_1\.bin \(plain.*cifar-10-binary\.tar\.gz/);
    all();
    rmSync(join(folder, "data_batch_4.bin"));
    expect(complaint(cifar10)).toMatch(/^data_batch_4\.bin/);
    rmSync(join(folder, "data_batch_1.bin"));
    write("data_batch_1", Uint8Array.of(0x80));
    expect(complaint(cifar10)).toMatch(/Python version/);
  });

  test("a file that is empty, cut, or has a label over 9", () => {
    all();
    write("data_batch_2.bin", new Uint8Array());
    expect(complaint(cifar10)).toMatch(/whole records of 3,073 bytes; got .* 0 bytes/);
    write("data_batch_2.bin", records([1, 2]).subarray(0, 6145));
    expect(complaint(cifar10)).toMatch(/6,145 bytes/);
    write("data_batch_2.bin", records([1, 10]));
    expect(complaint(cifar10)).toMatch(/got 10 in record 1 of .*data_batch_2\.bin/);
  });
});
