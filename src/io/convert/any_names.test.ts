import fc from "fast-check";
import { expect, test } from "vitest";
import { EvenkeelError } from "../../base/errors.js";
import { type ConvertOptions, convertTensors } from "./convert_tensors.js";
import { frameworkNames } from "./frameworks.js";

// Names that mean something to one framework or another, in places where they do not belong.
const parts = [
  ...["weight", "bias", "running_mean", "num_batches_tracked", "weight_g", "weight_v", "weight_orig", "weight_u"],
  ...["parametrizations", "original0", "original1", "in_proj_weight", "in_proj_bias", "q_proj_weight", "out_proj"],
  ...["kernel", "gamma", "beta", "moving_mean", "depthwise_kernel", "pointwise_kernel", "embeddings", "query", "key"],
  ...["value", "attention_output", "out", "scale", "mean", "var", "embedding", "params", "batch_stats", "layers"],
  ...["vars", "0", "1", "2", "batch_normalization", "dense_1", "optimizer", "kernel:0", "", "__proto__", "depthwise"],
];
const name = fc
  .tuple(fc.array(fc.constantFrom(...parts), { minLength: 1, maxLength: 4 }), fc.constantFrom(".", "/"))
  .map(([words, by]) => words.join(by));
const tensor = fc
  .array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 })
  .map((shape) => ({ shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 1) }));
const source = fc.uniqueArray(fc.tuple(name, tensor), { selector: ([n]) => n, maxLength: 8 });
const framework = fc.constantFrom(...frameworkNames);

test("any names and shapes: a typed error, or a report of every tensor and results as long as their shapes", async () => {
  let [accepted, refused] = [0, 0];
  const holds = fc.asyncProperty(
    source,
    fc.option(source),
    framework,
    framework,
    fc.boolean(),
    async (given, wanted, from, to, tells) => {
      const template = wanted === null ? null : new Map(wanted);
      const options: ConvertOptions = { to, template, ...(tells ? {} : { from }) };
      try {
        const { tensors, report } = await convertTensors(new Map(given), options);
        accepted++;
        const said = new Set(report.entries.flatMap((e) => e.from));
        expect([...said].sort()).toEqual(given.map(([n]) => n).sort());
        for (const [n, { shape, data }] of tensors) {
          expect(data.length, n).toBe(shape.reduce((a, b) => a * b, 1));
          expect(data.every(Number.isFinite), n).toBe(true);
        }
        const to_ = report.entries.flatMap((e) => (e.outcome === "missing" || e.to === null ? [] : [e.to]));
        expect(to_.sort()).toEqual([...tensors.keys()].sort());
        // Of the template, each name is filled or missing, and there is no other.
        const filled = new Set([...tensors.keys(), ...report.missing]);
        if (template) for (const n of filled) expect(template.has(n), n).toBe(true);
      } catch (error) {
        if (!(error instanceof EvenkeelError)) throw error;
        refused++;
      }
    },
  );
  await fc.assert(holds, { numRuns: 5000, seed: 20263 });
  console.info(`names of any kind: ${accepted} accepted, ${refused} refused`);
  expect(accepted).toBeGreaterThan(1000);
});
