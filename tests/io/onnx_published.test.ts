import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { DTypeError, FormatError, ShapeError, scope, UnsupportedKernel } from "../../src/index.js";
import { loadOnnx } from "../../src/io/index.js";
import { ModelSchema, TensorSchema } from "../../src/io/onnx/proto/onnx_pb.js";
import { readTensor } from "../../src/io/onnx/tensor_proto.js";
import type { Numbers } from "./onnx_model.js";
import { difference, ownOutputs } from "./onnx_runtime.js";

// The models that ONNX itself publishes to hold its backends to, each with inputs and outputs: Debian's libonnx-testdata.
const root = "/usr/share/libonnx-testdata/data/";
const families = ["node", "pytorch-converted", "pytorch-operator", "simple"];

/** float32 results; those of float16 and of windows made with a pi of four digits are checked as closely as they are stored. */
const allowed = (name: string): number => (/FLOAT16|window/.test(name) ? 1e-3 : 1e-5);

const tensorAt = (path: string): Numbers => {
  const { shape, type, data } = readTensor(fromBinary(TensorSchema, readFileSync(path)), path, "tensor");
  return { shape, type, data: Array.from(data) };
};

const opsetOf = (path: string): number =>
  Number(fromBinary(ModelSchema, readFileSync(path)).opsetImport.find((o) => o.domain === "")?.version ?? 0);

describe.skipIf(!existsSync(root))("ONNX's published models (apt install libonnx-testdata)", () => {
  const counts = { right: 0, refused: 0, apart: 0, older: 0 };

  describe.each(families)("%s", (family) => {
    test.each(existsSync(root) ? readdirSync(root + family).sort() : [])("%s", (name) => {
      const folder = `${root}${family}/${name}/`;
      if (opsetOf(`${folder}model.onnx`) < 9) {
        const named = /opset [0-8]:?|not there|string \(8\)|no tensor type/;
        expect(() => loadOnnx(`${folder}model.onnx`)).toThrow(named);
        counts.older++;
        return;
      }
      scope(() => {
        let worst = 0;
        try {
          const model = loadOnnx(`${folder}model.onnx`);
          for (const set of readdirSync(folder).filter((f) => f.startsWith("test_data_set"))) {
            const all = (kind: string, names: readonly string[]): Record<string, Numbers> =>
              Object.fromEntries(names.map((n, i) => [n, tensorAt(`${folder}${set}/${kind}_${i}.pb`)]));
            const made = ownOutputs(model, all("input", model.inputNames));
            for (const [output, wanted] of Object.entries(all("output", model.outputNames))) {
              worst = Math.max(worst, difference(made.get(output)!, wanted));
            }
          }
          model.dispose();
        } catch (error) {
          if (!refusals.some((r) => error instanceof r.kind && r.text.test(`${name}: ${(error as Error).message}`))) {
            throw error;
          }
          counts.refused++;
          return;
        }
        if (apart.some((r) => r.test(name))) {
          counts.apart++;
          return;
        }
        expect(worst).toBeLessThanOrEqual(allowed(name));
        counts.right++;
      });
    });
  });

  afterAll(() => {
    console.info(`ONNX's published models: ${JSON.stringify(counts)}`);
    expect(counts.right).toBeGreaterThanOrEqual(618);
  });
});

/** What is not read, and how it is refused. An operator that is read and gives other numbers is no refusal. */
const refusals: readonly { readonly kind: new (text: string) => Error; readonly text: RegExp }[] = [
  {
    kind: UnsupportedKernel,
    text: /: (not there|mode|a cast to text|reduction|there from opset|"tf_crop_and_resize")/,
  },
  { kind: UnsupportedKernel, text: /^test_einsum_batch_diagonal/ },
  { kind: FormatError, text: /string \(8\)|no tensor type|precomputed/ },
  { kind: DTypeError, text: /^test_maxpool_2d_uint8/ },
  // Published are the bits of bfloat16 as whole numbers.
  { kind: DTypeError, text: /^test_cast(like)?_BFLOAT16_to_FLOAT/ },
  { kind: ShapeError, text: /^test_castlike_FLOAT_to_BFLOAT16/ },
];

/** Models whose published numbers are not to be met. */
const apart: readonly RegExp[] = [
  // The bits of bfloat16 as whole numbers.
  /^test_cast_FLOAT_to_BFLOAT16$/,
  // Random numbers of NumPy.
  /^test_training_dropout(_default|_mask|_default_mask)?$/,
  // Published with a resized length of 2.4 elements; here, as in onnxruntime, it has the 2 that there are.
  /^test_resize_downsample_scales_linear_align_corners$/,
];
