import { describe, expect, test } from "vitest";
import { capture, grad, noGrad, randn, Tensor, tensor, zeros } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { DeviceError, DTypeError, OptionError, ShapeError, StateError } from "../../src/base/errors.js";
import { manualSeed, Random } from "../../src/base/random.js";
import { numberOfElements, type Shape } from "../../src/base/shape.js";
import { heap } from "../../src/memory/heap.js";
import { scope } from "../../src/memory/scope.js";
import { checkpoint } from "../../src/nn/checkpoint.js";
import { type Module, Parameter } from "../../src/nn/module.js";
import { noStatsUpdate } from "../../src/nn/norm/index.js";
import { testOnDevice } from "./on_device.js";

/** What a normalization layer says about itself, so that one set of tests can hold it to that. */
export interface NormKind {
  /** The name it is exported under. */
  readonly name: string;
  /** A new layer for inputs of `shape`, with these options after its arguments. */
  readonly make: (options?: object) => Module;
  readonly shape: Shape;
  /** Names of the state, in order. */
  readonly state: readonly string[];
  /** What forward takes behind x: a condition, a mask. */
  readonly extra?: (dtype: DType, shape: Shape) => unknown[];
  /** Options that must raise OptionError. Default: an eps out of range. */
  readonly bad?: readonly object[];
  /** A shape that must raise ShapeError; null where any shape goes. */
  readonly wrong: Shape | null;
  /** A batch of one sample with one value a channel, in training: "works", or raises ShapeError. */
  readonly lone: { readonly shape: Shape; readonly works: boolean };
  /** What a constant input gives in training: the bias exactly, or just something finite. */
  readonly constant: "bias" | "finite";
  /** The axes that a NaN in the input spreads along, or whether one at index a reaches the output at index b. */
  readonly spreads: readonly number[] | ((a: readonly number[], b: readonly number[]) => boolean);
  /** Why backward is not the derivative of a training forward, where it is not; then evaluation is checked alone. */
  readonly inexact?: string;
  /** Why a training forward cannot be captured, where it cannot. */
  readonly uncaptured?: string;
  /** Whether an output follows from the input and the parameters alone, so that training and evaluation agree. */
  readonly sameInEval: boolean;
}

const random = new Random(11);
const normal = (shape: Shape, dtype: DType = "float32") => randn(shape, { dtype, random });
const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const badEps = [Number.NaN, -1, "1e-5", Number.POSITIVE_INFINITY].map((eps) => ({ eps }));

function indexOf(flat: number, shape: Shape): number[] {
  const index: number[] = [];
  for (let axis = shape.length - 1, rest = flat; axis >= 0; axis--) {
    index[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return index;
}

/** What every normalization layer keeps to. */
export function normContract(kind: NormKind): void {
  const { name, make, shape, state, extra = () => [], bad = badEps, wrong, lone, constant, spreads, sameInEval } = kind;
  const { uncaptured } = kind;
  const x = (dtype: DType = "float32") => normal(shape, dtype);
  const run = (layer: Module, input: Tensor, of: Shape = input.shape): Tensor =>
    layer.forward(input, ...extra(input.dtype === "float64" ? "float64" : "float32", of));
  /** Parameters away from the values they start with, so that nothing is right by chance. */
  const stir = <M extends Module>(layer: M): M => {
    for (const p of layer.parameters()) p.assign(normal(p.shape).mul(0.25).add(p.detach().cast("float32")));
    return layer;
  };

  describe(`contract: ${name}`, () => {
    test("state names, and loading a state repeats the output", () => {
      const first = make();
      expect(Object.keys(first.stateDict())).toEqual(state);
      run(first, x());
      stir(first);
      run(first, x());
      const second = make();
      second.loadStateDict(first.stateDict());
      const input = x();
      const behind = extra("float32", shape);
      expect(values(second.eval().forward(input, ...behind))).toEqual(values(first.eval().forward(input, ...behind)));
    });

    test("weight decay leaves its own parameters alone", () => {
      // Maps that a condition goes through are layers of their own, and decay.
      for (const p of Object.values(make())) if (p instanceof Parameter) expect(p.noWeightDecay).toBe(true);
    });

    test("training and evaluation", () => {
      const layer = stir(make());
      const input = x();
      const behind = extra("float32", shape);
      const trained = values(layer.forward(input, ...behind));
      layer.eval();
      const before = Object.entries(layer.stateDict()).map(([k, t]) => [k, values(t)]);
      const once = values(layer.forward(input, ...behind));
      expect(values(layer.forward(input, ...behind))).toEqual(once);
      expect(Object.entries(layer.stateDict()).map(([k, t]) => [k, values(t)])).toEqual(before);
      if (sameInEval) expect(once).toEqual(trained);
    });

    test(`captured, ${uncaptured ? `refuses: ${uncaptured}` : "training gives the same bits"}`, () => {
      const [plain, replayed] = [stir(make()), make()];
      replayed.loadStateDict(plain.stateDict());
      const behind = extra("float32", shape);
      const stepOf = (layer: Module) => (input: Tensor) => {
        layer.zeroGrad();
        const y: Tensor = layer.forward(input, ...behind);
        const parameters = layer.parameters();
        if (parameters.length > 0) y.mul(y.add(0.1)).sum().backward();
        return [y, ...parameters.map((p) => p.grad?.detach() ?? null)];
      };
      const [step, captured] = [stepOf(plain), capture(stepOf(replayed))];
      const steps = () => {
        for (let i = 0; i < 5; i++) {
          const input = x();
          const [expected, got] = [step(input), captured(input)].map((list) => list.map((t) => t && values(t)));
          expect(got).toEqual(expected);
        }
      };
      if (uncaptured) expect(steps).toThrow(/computes with tensors alone/);
      else steps();
      for (const [name, t] of Object.entries(replayed.stateDict())) {
        if (!uncaptured) expect([name, values(t)]).toEqual([name, values(plain.stateDict()[name])]);
      }
      captured.dispose();
    });

    const [cpu, gpu] = [stir(make()), make()];
    gpu.loadStateDict(cpu.stateDict());
    const [input, dy, behind] = [x(), x(), extra("float32", shape)];
    testOnDevice({
      kind: "layer",
      name,
      tolerance: 2e-6,
      run: (device) => {
        const layer = device === "cpu" ? cpu : gpu.to(device);
        const moved = behind.map((t) => (t instanceof Tensor ? t.to(device) : t));
        const leaf = input.to(device).detach();
        leaf.requiresGrad = true;
        const y: Tensor = layer.forward(leaf.add(0), ...moved);
        y.backward(dy.to(device));
        return [y, leaf.grad!, ...layer.parameters().flatMap((p) => (p.grad ? [p.grad] : []))];
      },
    });

    test("an unknown option names the nearest one, and options out of range are refused", () => {
      expect(() => make({ dtypee: "float32" })).toThrow(/has the options .*Did you mean "dtype"\?/);
      for (const options of bad) expect(() => make(options), JSON.stringify(options)).toThrow(OptionError);
      expect(() => make({ dtype: "float16" })).toThrow(DTypeError);
      expect(() => make({ dtype: "int32" })).toThrow(DTypeError);
      expect(() => make({ device: "gpu" })).toThrow(DeviceError);
    });

    test("an input of another shape or type", () => {
      const layer = make();
      if (wrong) expect(() => run(layer, normal(wrong), shape)).toThrow(ShapeError);
      expect(() => run(layer, zeros(shape, { dtype: "int32" }))).toThrow(DTypeError);
      if (layer.parameters().length > 0) {
        expect(() => layer.forward(x("float64"), ...extra("float64", shape))).toThrow(DTypeError);
      }
    });

    test("float64 throughout, made so or cast so", () => {
      for (const layer of [make({ dtype: "float64" }), make().to("float64")]) {
        expect(run(layer, x("float64")).dtype).toBe("float64");
        for (const p of layer.parameters()) expect(p.dtype).toBe("float64");
        expect(layer.backward(x("float64")).dtype).toBe("float64");
        for (const p of layer.parameters()) expect(p.grad?.dtype ?? "float64").toBe("float64");
      }
    });

    test("backward gives the gradient to the input, and parameters add up", () => {
      // In evaluation, so that what training moves does not move the second gradient.
      const layer = stir(make());
      run(layer, x());
      layer.eval().zeroGrad();
      const [input, dy] = [x(), x()];
      const behind = extra("float32", shape);
      layer.forward(input, ...behind);
      expect(layer.backward(dy).shape).toEqual(shape);
      const once = layer.parameters().map((p) => (p.grad ? values(p.grad) : null));
      layer.forward(input, ...behind);
      layer.backward(dy);
      for (const [i, p] of layer.parameters().entries()) {
        if (!once[i]) continue;
        expect(p.grad!.shape).toEqual(p.shape);
        expect(values(p.grad)).toEqual(once[i].map((v) => 2 * v));
      }
    });

    test("one sample", () => {
      const layer = make();
      const input = normal(lone.shape);
      if (!lone.works) {
        expect(() => run(layer, input)).toThrow(ShapeError);
        layer.eval();
      }
      for (const v of values(run(layer, input))) expect(v).toSatisfy(Number.isFinite);
    });

    test("a constant input", () => {
      const layer = stir(make());
      const input = tensor(new Float32Array(numberOfElements(shape)).fill(3.25), { shape });
      const y = run(layer, input);
      const dx = layer.backward(x());
      for (const t of [y, dx, ...layer.parameters().map((p) => p.grad)]) {
        for (const v of t ? values(t) : []) expect(v).toSatisfy(Number.isFinite);
      }
      if (constant !== "bias") return;
      const bias = (layer as unknown as { bias?: Tensor | null }).bias;
      const allowed = new Set(bias ? values(bias) : [0]);
      // -0 is 0 here.
      for (const v of values(y)) expect(allowed.has(v === 0 ? 0 : v), `${v} is one of ${[...allowed]}`).toBe(true);
    });

    test("NaN reaches its own statistic and nothing else", () => {
      const layer = make();
      const input = x();
      const place = Math.floor(0.6 * input.size);
      const data = Float32Array.from(input.dataSync());
      data[place] = Number.NaN;
      const y = run(layer, tensor(data, { shape }));
      const at = indexOf(place, shape);
      const reaches =
        typeof spreads === "function"
          ? spreads
          : (a: readonly number[], b: readonly number[]) => a.every((v, i) => spreads.includes(i) || v === b[i]);
      for (const [i, v] of values(y).entries()) {
        if (i === place) expect(v).toBeNaN();
        else if (!reaches(at, indexOf(i, shape))) expect(v, `at ${indexOf(i, shape)}`).toSatisfy(Number.isFinite);
      }
    });

    test("gradients to the input and the parameters, against central differences in float64", () => {
      for (const training of kind.inexact ? [false] : [true, false]) {
        const layer = stir(make({ dtype: "float64" }));
        const behind = extra("float64", shape);
        // What a first batch decides is decided; what a batch moves is held still.
        layer.forward(x("float64"), ...behind);
        layer.train(training).zeroGrad();
        const forward = (input: Tensor) => noStatsUpdate(() => layer.forward(input, ...behind));
        const [input, dy] = [x("float64"), x("float64")];
        forward(input);
        const places = [input, ...layer.parameters()];
        const slopes = [layer.backward(dy), ...layer.parameters().map((p) => p.grad)];
        for (let trial = 0; trial < 3; trial++) {
          const directions = places.map((t) => normal(t.shape, "float64"));
          const starts = places.map((t) => t.detach().mul(1));
          const at = (h: number) =>
            noGrad(() => {
              for (const [i, t] of places.entries()) t.assign(starts[i]!.add(directions[i]!.mul(h)));
              return forward(input).mul(dy).sum().item();
            });
          const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
          at(0);
          const analytic = slopes.reduce((sum, g, i) => sum + (g ? g.mul(directions[i]!).sum().item() : 0), 0);
          expect(Math.abs(analytic - numeric) / Math.max(1, Math.abs(numeric))).toBeLessThanOrEqual(1e-6);
        }
      }
    });

    test("gradients of gradients: right, or refused by the name of an op", () => {
      const layer = stir(make({ dtype: "float64" }));
      const behind = extra("float64", shape);
      layer.forward(x("float64"), ...behind);
      if (kind.inexact) layer.eval();
      const [input, dy, direction] = [x("float64"), x("float64"), x("float64")];
      input.requiresGrad = true;
      const slope = () =>
        noStatsUpdate(() => grad(layer.forward(input, ...behind), input, { gradOutput: dy, createGraph: true }));
      let first: Tensor;
      try {
        first = slope();
      } catch (error) {
        expect(error).toBeInstanceOf(StateError);
        expect((error as Error).message).toMatch(
          /^createGraph needs ops whose backward is itself differentiable; got \w+/,
        );
        return;
      }
      const second = grad(first, input, { gradOutput: direction });
      // <direction, d slope> along a random step, by central differences of first derivatives.
      const step = x("float64");
      const start = input.detach().mul(1);
      const at = (h: number) => {
        input.assign(start.add(step.mul(h)));
        return slope().mul(direction).sum().item();
      };
      const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
      const analytic = second.mul(step).sum().item();
      expect(Math.abs(analytic - numeric) / Math.max(1, Math.abs(numeric))).toBeLessThanOrEqual(1e-5);
    });

    test("under a checkpoint: the same bits, and what training moves moves once", () => {
      const behind = extra("float32", shape);
      const outcome = (checkpointed: boolean) => {
        const drawn = new Random(31);
        const draw = (of: Shape) => randn(of, { random: drawn });
        manualSeed(13);
        const layer = make();
        return [1, 2].flatMap((scale) => {
          layer.zeroGrad();
          const [input, dy] = [draw(shape).mul(scale).detach(), draw(shape)];
          input.requiresGrad = true;
          const y = checkpointed ? checkpoint(layer, input, ...behind) : layer.forward(input, ...behind);
          // A second batch before the first one goes back, as where one layer serves two branches.
          noGrad(() => layer.forward(draw(shape), ...behind));
          const dx = grad(y, [input, ...layer.parameters()], { gradOutput: dy });
          for (const p of layer.parameters()) p.assign(p.detach().mul(0.9).add(draw(p.shape).mul(0.1)));
          return [y, ...dx, ...Object.values(layer.stateDict())].map(values);
        });
      };
      expect(outcome(true)).toEqual(outcome(false));
    });

    test("training steps leave the heap as they found it, and dispose gives back the rest", () => {
      const start = heap.stats.liveBytes;
      let layer!: Module;
      scope(() => {
        layer = make();
        const step = () =>
          scope(() => {
            layer.zeroGrad();
            run(layer, x());
            layer.backward(x());
            noGrad(() => run(layer, x()));
          });
        step();
        const before = heap.stats.liveBytes;
        for (let i = 0; i < 20; i++) step();
        // Garbage of other tests may be collected meanwhile, so less is possible.
        expect(heap.stats.liveBytes).toBeLessThanOrEqual(before);
        layer.dispose();
      });
      expect(heap.stats.liveBytes).toBeLessThanOrEqual(start);
    });
  });
}
