import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.js";
import { noGrad } from "../../../src/index.js";
import { exportOnnx, loadOnnx } from "../../../src/io/index.js";
import { layers } from "./layers.js";
import { difference, runOnnx } from "./ort.js";
import { inputsOf, outputsOf, prepared, seedOf } from "./prepared.js";

const TOLERANCE = 1e-5;
let worst = 0;

/** Whole numbers and truth values of a loaded model are computed by JavaScript, which exportOnnx cannot follow. */
const byWholeNumbers = /Embedding|integers|CrossEntropy|^Masked\w+( by the batch)?$/;

describe.each(Object.entries(layers))("%s", (name, layer) => {
  test.each([13, 17, 24])("comes back by loadOnnx at opset %i, and out again", async (opset) => {
    const r = new Random(seedOf(name));
    const model = prepared(layer, r).eval();
    const args = layer.inputs(r);
    const ours = outputsOf(noGrad(() => model.forward(...args)));
    const loaded = loadOnnx(exportOnnx(model, args, { opset }));
    const back = noGrad(() => loaded.run(inputsOf(args)));
    const out = () => {
      const names = { inputNames: loaded.inputNames, outputNames: loaded.outputNames.slice(0, 1) };
      return exportOnnx(loaded, Object.values(inputsOf(args)), { opset, ...names });
    };
    const refused = byWholeNumbers.test(name);
    if (refused) expect(out).toThrow(/no op has made/);
    const ran = refused ? null : await runOnnx(out(), inputsOf(args));
    for (const [i, [key, t]] of ours.entries()) {
      expect(back[key]!.shape).toEqual(t.shape);
      const numbers = t.dataSync();
      worst = Math.max(worst, difference(back[key]!.dataSync(), numbers));
      expect(difference(back[key]!.dataSync(), numbers), key).toBeLessThan(TOLERANCE);
      // A loaded model's forward gives the first output.
      if (i === 0 && ran) expect(difference(ran.get(key)!.data, numbers), key).toBeLessThan(TOLERANCE);
    }
  });
});

afterAll(() => console.info(`ONNX out and in: ${Object.keys(layers).length} layers, largest difference ${worst}`));
