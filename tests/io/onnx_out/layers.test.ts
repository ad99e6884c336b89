import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.js";
import { concat, nn, noGrad, Tensor } from "../../../src/index.js";
import { exportOnnx } from "../../../src/io/index.js";
import { layers } from "./layers.js";
import { difference, runOnnx } from "./ort.js";
import { inputsOf, outputsOf, prepared, seedOf } from "./prepared.js";

/** The argument with each of its tensors put through `change`. */
function changed(arg: unknown, change: (t: Tensor) => Tensor): unknown {
  if (arg instanceof Tensor) return change(arg);
  return Object.fromEntries(Object.entries(arg as object).map(([k, v]) => [k, changed(v, change)]));
}
const wide = (arg: unknown) => changed(arg, (t) => (t.dtype === "float32" ? t.cast("float64") : t));

/** With sums of a few hundred float32 numbers in another order than ours; relative above 1. */
const TOLERANCE = 1e-5;
const worst = { single: 0, double: 0, at: "" };

test.each(Object.entries(layers))("%s gives the same in onnxruntime-web", async (name, layer) => {
  const r = new Random(seedOf(name));
  const model = prepared(layer, r);
  const args = layer.inputs(r);
  model.eval();
  const ours = outputsOf(noGrad(() => model.forward(...args))).map(([key, t]) => [key, t.shape, t.dataSync()] as const);
  model.train();
  const files = [13, 17, 18, 21, 24].map((opset) => exportOnnx(model, args, { opset }));
  expect(model.training).toBe(true);
  model.eval().to("float64");
  const exact = outputsOf(noGrad(() => model.forward(...args.map(wide)))).map(([, t]) => t.dataSync());
  for (const bytes of files) {
    const ran = await runOnnx(bytes, inputsOf(args));
    expect([...ran.keys()].sort()).toEqual(ours.map(([key]) => key).sort());
    for (const [i, [key, shape, numbers]] of ours.entries()) {
      const { shape: got, data } = ran.get(key)!;
      expect(got).toEqual(shape);
      const [single, double] = [difference(data, numbers), difference(data, exact[i]!)];
      if (double > worst.double) Object.assign(worst, { double, at: `${name} ${key}` });
      worst.single = Math.max(worst.single, single);
      expect(single, key).toBeLessThan(TOLERANCE);
    }
  }
});

describe("any batch size", () => {
  const cases = Object.entries(layers).filter(([, { batch }]) => !batch || !("fixed" in batch));

  test.each(cases)("%s", async (name, layer) => {
    const r = new Random(seedOf(name));
    const model = prepared(layer, r);
    const args = layer.inputs(r);
    const axes = layer.batch as Record<string, number> | undefined;
    const bytes = exportOnnx(model, args, { dynamicBatch: axes ?? true });
    model.eval();
    for (const times of [1, 2]) {
      const names = new Map(Object.entries(inputsOf(args)).map(([key, t]) => [t, key]));
      const more = args.map((arg) =>
        changed(arg, (t) =>
          concat(
            Array.from({ length: times }, () => t),
            axes?.[names.get(t)!] ?? 0,
          ),
        ),
      );
      const ran = await runOnnx(bytes, inputsOf(more));
      for (const [key, t] of outputsOf(noGrad(() => model.forward(...more)))) {
        expect(ran.get(key)!.shape).toEqual(t.shape);
        expect(difference(ran.get(key)!.data, t.dataSync()), key).toBeLessThan(TOLERANCE);
      }
    }
  });

  test.each(Object.entries(layers).filter(([, { batch }]) => batch && "fixed" in batch))(
    "%s is refused or does not run in another",
    (name, layer) => {
      const r = new Random(seedOf(name));
      expect(() => exportOnnx(prepared(layer, r), layer.inputs(r), { dynamicBatch: true })).toThrow(/; got /);
    },
  );
});

afterAll(() => {
  const { single, double, at } = worst;
  const count = Object.keys(layers).length;
  console.info(`ONNX out: ${count} layers, largest difference ${single}, to float64 ${double} (${at})`);
});

test("every layer of nn is among them", () => {
  const classes = Object.entries(nn).filter(
    ([name, value]) => typeof value === "function" && value.prototype instanceof nn.Module && name !== "Module",
  );
  expect(classes.map(([name]) => name).filter((name) => !(name in layers))).toEqual([]);
});
