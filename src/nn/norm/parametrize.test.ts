import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { noGrad, randn, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { FormatError, OptionError, ShapeError, StateError } from "../../base/errors.js";
import { manualSeed, Random } from "../../base/random.js";
import { heap } from "../../memory/heap.js";
import { scope } from "../../memory/scope.js";
import { SGD } from "../../optim/sgd.js";
import { checkpoint } from "../checkpoint.js";
import { Conv2d } from "../conv.js";
import { ConvTranspose2d } from "../conv_transpose.js";
import { Embedding } from "../embedding.js";
import * as F from "../functional.js";
import { Linear } from "../linear.js";
import type { Module } from "../module.js";
import { MultiheadAttention } from "../multihead_attention.js";
import { Sequential } from "../sequential.js";
import { removeParametrization } from "./parametrize.js";
import { noStatsUpdate } from "./running_stats.js";
import { spectralNorm } from "./spectral_norm.js";
import { weightNorm } from "./weight_norm.js";
import { weightStandardization } from "./weight_standardization.js";

const values = (t: Tensor | null) => [...t!.dataSync()];
const kinds = {
  weightNorm: { put: weightNorm, names: ["bias", "weight_g", "weight_v"] },
  spectralNorm: { put: spectralNorm, names: ["bias", "weight_orig", "weight_u", "weight_v"] },
  weightStandardization: { put: weightStandardization, names: ["weight", "bias"] },
} as const;

const random = new Random(5);
const vector = (n: number) => {
  const t = tensor(
    Array.from({ length: n }, () => random.normal()),
    { dtype: "float64" },
  );
  return t.div(t.square().sum().sqrt());
};
const [u3, v20, u4, v15] = [vector(3), vector(20), vector(4), vector(15)];

checkOps("weights", [
  { name: "weightNorm, dim 0", inputs: [normal([3, 4, 5]), normal([3, 1, 1])], apply: (v, g) => F.weightNorm(v!, g!) },
  {
    name: "weightNorm, dim -2",
    inputs: [normal([3, 4, 5]), normal([1, 4, 1])],
    apply: (v, g) => F.weightNorm(v!, g!, { dim: -2 }),
  },
  {
    name: "weightNorm, one norm",
    inputs: [normal([3, 4]), normal([])],
    apply: (v, g) => F.weightNorm(v!, g!, { dim: null }),
  },
  {
    name: "weightStandardization",
    inputs: [normal([3, 4, 5], 2), normal([3])],
    apply: (w, gain) => F.weightStandardization(w!, { gain: gain! }),
  },
  {
    name: "weightStandardization, dim 1",
    inputs: [normal([3, 4, 5])],
    apply: (w) => F.weightStandardization(w!, { dim: 1, eps: 0.1 }),
  },
  // The cotangent's share along u v^T cancels, so float32 shows the rounding of sigma, a sum of 60 products.
  { name: "spectralNorm", inputs: [normal([3, 4, 5])], apply: (w) => F.spectralNorm(w!, u3, v20), float32: 2e-6 },
  {
    name: "spectralNorm, dim 1",
    inputs: [normal([3, 4, 5])],
    apply: (w) => F.spectralNorm(w!, u4, v15, { dim: 1 }),
    float32: 2e-6,
  },
]);

describe.each(Object.entries(kinds))("%s", (kind, { put, names }) => {
  const make = () => put(new Conv2d(3, 4, 2));
  const x = () => normal([2, 3, 4, 4]).cast("float32");

  test("state names, round trip, and removal to the bit", () => {
    const first = make();
    expect(Object.keys(first.stateDict())).toEqual(names);
    for (const p of first.parameters()) p.assign(normal(p.shape));
    first.forward(x());
    const second = make();
    second.loadStateDict(first.stateDict());
    const input = x();
    const y = values(first.eval().forward(input));
    expect(values(second.eval().forward(input))).toEqual(y);
    expect(removeParametrization(first)).toBe(first);
    expect(Object.keys(first.stateDict()).sort()).toEqual(["bias", "weight"]);
    expect(values(first.forward(input))).toEqual(y);
    expect(() => removeParametrization(first)).toThrow(StateError);
    expect(values(put(first).eval().forward(input)).length).toBe(y.length);
  });

  test("casts, and backward reaches input and parameters", () => {
    const layer = make().to("float64");
    expect(layer.forward(normal([2, 3, 4, 4])).dtype).toBe("float64");
    expect(layer.backward(normal([2, 4, 3, 3])).dtype).toBe("float64");
    for (const p of layer.parameters()) {
      expect(p.dtype).toBe("float64");
      expect(p.grad!.shape).toEqual(p.shape);
    }
  });

  test("trains in a Sequential without leaving anything on the heap, also through an optimizer made before", () => {
    const start = heap.stats.liveBytes;
    let losses: number[] = [];
    scope(() => {
      const conv = new Conv2d(3, 4, 2);
      const model = new Sequential(conv, new Conv2d(4, 2, 2));
      const before = new SGD(model.parameters(), { lr: 0.02 });
      put(conv);
      const input = x();
      const step = () =>
        scope(() => {
          before.zeroGrad();
          const loss = model.forward(input).sub(1).square().mean();
          loss.backward();
          before.step();
          noGrad(() => model.forward(input));
          return loss.item();
        });
      const first = step();
      const live = heap.stats.liveBytes;
      losses = [first, ...Array.from({ length: 20 }, step)];
      // Garbage of other tests may be collected meanwhile, so less is possible.
      expect(heap.stats.liveBytes).toBeLessThanOrEqual(live);
      before.dispose();
      model.dispose();
    });
    expect(losses[20]!).toBeLessThan(0.7 * losses[0]!);
    expect(heap.stats.liveBytes).toBeLessThanOrEqual(start);
  });

  test("leaves nothing behind outside a scope either", () => {
    const layer = make();
    const input = x();
    const once = () => noGrad(() => layer.forward(input)).dispose();
    once();
    const live = heap.stats.liveBytes;
    for (let i = 0; i < 5; i++) once();
    expect(heap.stats.liveBytes).toBeLessThanOrEqual(live);
  });

  test("a zero weight gives zeros and finite gradients", () => {
    const layer = new Conv2d(3, 4, 2, { bias: false });
    layer.weight.assign(new Float32Array(48));
    put(layer);
    const y = layer.forward(x());
    layer.backward(normal(y.shape).cast("float32"));
    expect(new Set(values(y).map(Math.abs))).toEqual(new Set([0]));
    for (const p of layer.parameters()) for (const g of values(p.grad)) expect(g).toSatisfy(Number.isFinite);
    // Of g = 0 and v = 0 each has the other as a factor in its gradient.
    const moves = values(layer.parameters().at(-1)!.grad).some((g) => g !== 0);
    expect(moves).toBe(kind !== "weightNorm");
  });

  test("what it refuses", () => {
    const layer = make();
    expect(() => weightNorm(layer)).toThrow(
      new RegExp(`takes a weight that nothing else computes; got weight of a Conv2d under ${kind}\\.`),
    );
    expect(() => put(new Conv2d(3, 4, 2), { name: "wieght" })).toThrow(/\(weight, bias\); got "wieght".*"weight"\?/);
    expect(() => put(3 as unknown as Module)).toThrow(/takes a module/);
    expect(() => put(new Conv2d(3, 4, 2), { dimension: 1 } as object)).toThrow(OptionError);
    expect(() => put(new Conv2d(3, 4, 2), { dim: 4 })).toThrow(ShapeError);
    expect(() => {
      (layer as { weight: unknown }).weight = zeros([1]);
    }).toThrow(StateError);
  });

  test("no gradients of the plain weight are taken for the learned one's", () => {
    const layer = new Linear(3, 4);
    layer.forward(normal([2, 3]).cast("float32"));
    layer.backward(normal([2, 4]).cast("float32"));
    put(layer);
    expect(layer.parameters().map((p) => p.grad !== null)).toEqual(layer.parameters().map((p) => p === layer.bias));
  });
});

describe("weightNorm", () => {
  test("does not change the weight, and what is read is computed from what is learned", () => {
    const layer = new Linear(5, 3, { dtype: "float64" });
    const before = values(layer.weight);
    weightNorm(layer);
    expect(relativeError(values(layer.weight), before)).toBeLessThan(1e-15);
    expect(() => layer.resetParameters()).toThrow(/computed by weightNorm; got an assignment/);
    const { weightG, weightV } = layer as unknown as Record<string, Tensor>;
    expect([weightG!.shape, weightV!.shape]).toEqual([
      [3, 1],
      [3, 5],
    ]);
    weightG!.assign([2, 2, 2]);
    for (const norm of values(layer.weight.square().sum(1))) expect(norm).toBeCloseTo(4, 12);
    expect(() => layer.loadStateDict({ weight: zeros([3, 5]) })).toThrow(FormatError);
    expect(() => F.weightNorm(weightV!, zeros([3]))).toThrow(/takes g of shape \[3, 1\]; got \[3\]/);
  });

  test("lengths whose squares overflow or vanish in float32", () => {
    for (const size of [1e30, 1e-30]) {
      const layer = weightNorm(new Linear(2, 1, { bias: false }));
      layer.loadStateDict({
        weight_g: { shape: [1, 1], data: [10] },
        weight_v: { shape: [1, 2], data: [3 * size, 4 * size] },
      });
      expect(relativeError(values(layer.weight), [6, 8])).toBeLessThan(1e-6);
    }
    const layer = new Linear(2, 1, { bias: false });
    layer.weight.assign([3e30, 4e30]);
    weightNorm(layer);
    expect(relativeError(values(layer.weight), [3e30, 4e30])).toBeLessThan(1e-6);
  });

  test("any layer, any parameter, and two of one layer", () => {
    const table = weightNorm(new Embedding(5, 3), { dim: 1 });
    expect(table.forward(tensor([1, 4], { dtype: "int32" })).shape).toEqual([2, 3]);
    const x = normal([2, 4, 6]).cast("float32");
    const attention = new MultiheadAttention(6, 2);
    const plain = values(attention.forward(x, x, x));
    weightNorm(spectralNorm(attention, { name: "inProjWeight" }), { name: "inProjBias" });
    expect(Object.keys(attention.stateDict())).toEqual(
      expect.arrayContaining(["in_proj_weight_orig", "in_proj_weight_u", "in_proj_bias_g", "in_proj_bias_v"]),
    );
    expect(values(attention.forward(x, x, x))).not.toEqual(plain);
    removeParametrization(attention, "inProjWeight");
    expect(() => removeParametrization(attention, "inProjWeight")).toThrow(/Parametrized are: inProjBias/);
    expect(attention.forward(x, x, x).shape).toEqual([2, 4, 6]);
  });
});

describe("spectralNorm", () => {
  const buffers = (m: Module) => m.buffers().map(values);

  test("begins near the largest singular value, by the seed, and training closes in on it", () => {
    const build = () => {
      manualSeed(3);
      return spectralNorm(new Linear(7, 5, { dtype: "float64" }));
    };
    const layer = build();
    expect(buffers(build())).toEqual(buffers(layer));
    for (let i = 0; i < 200; i++) layer.forward(normal([1, 7]));
    // By the other end: the largest eigenvalue of W W^T, squared over and over, is what is left of its trace.
    let gram = layer.weight.detach().matmul(layer.weight.detach(), { transposeB: true });
    let logs = 0;
    for (let i = 0; i < 40; i++) {
      const largest = gram.abs().max().item();
      logs += Math.log(largest) / 2 ** i;
      gram = gram.div(largest);
      gram = gram.matmul(gram);
    }
    expect(Math.exp(logs)).toBeCloseTo(1, 10);
  });

  test("moves u and v in training forwards alone", () => {
    const layer = spectralNorm(new ConvTranspose2d(3, 4, 2));
    expect(layer.buffers().map((b) => b.shape)).toEqual([[4], [12]]);
    const x = normal([1, 3, 2, 2]).cast("float32");
    const start = buffers(layer);
    layer.eval().forward(x);
    layer.train();
    noStatsUpdate(() => layer.forward(x));
    values(layer.weight);
    expect(buffers(layer)).toEqual(start);
    layer.forward(x);
    expect(buffers(layer)).not.toEqual(start);
  });

  test("under a checkpoint u and v move once, and gradients are those without", () => {
    const run = (kept: boolean) => {
      manualSeed(5);
      const layer = spectralNorm(new Linear(3, 4));
      const x = randn([2, 3]);
      const y = kept ? checkpoint(layer, x) : layer.forward(x);
      y.square().sum().backward();
      return [buffers(layer), layer.parameters().map((p) => values(p.grad))];
    };
    expect(run(true)).toEqual(run(false));
  });

  test("two training forwards, then both gradients", () => {
    const layer = spectralNorm(new Linear(3, 2, { dtype: "float64" }));
    const [a, b] = [normal([2, 3]), normal([2, 3])];
    const loss = layer.forward(a).sum().add(layer.forward(b).square().sum());
    loss.backward();
    expect(layer.parameters().every((p) => p.grad !== null)).toBe(true);
  });

  test("NaN in the weight does not stay in u and v", () => {
    const layer = spectralNorm(new Linear(2, 2));
    const start = buffers(layer);
    const learned = (layer as unknown as Record<string, Tensor>).weightOrig!;
    const good = learned.dataSync();
    learned.assign([1, Number.NaN, 2, 3]);
    expect(values(layer.forward(zeros([1, 2])))[0]).toBeNaN();
    expect(buffers(layer)).toEqual(start);
    learned.assign(good);
    expect(values(layer.forward(zeros([1, 2])))).toEqual(values(layer.bias));
  });
});

describe("weightStandardization", () => {
  test("a plain layer's state loads, and the learned weight keeps its name", () => {
    const plain = new Conv2d(3, 4, 2);
    const layer = weightStandardization(new Conv2d(3, 4, 2), { gain: true });
    layer.loadStateDict(plain.stateDict(), { strict: false });
    expect(values(layer.weight)).toEqual(values(plain.weight));
    expect(Object.keys(layer.stateDict())).toEqual(["weight", "bias", "weight_gain"]);
    const x = normal([1, 3, 3, 3]).cast("float32");
    const want = F.conv2d(x, F.weightStandardization(plain.weight), { bias: plain.bias });
    expect(values(layer.forward(x))).toEqual(values(want));
  });

  test("float32 keeps its digits far from 0", () => {
    const far = normal([4, 3, 3, 3]).cast("float32").add(1e4);
    const want = F.weightStandardization(far.cast("float64"));
    expect(relativeError(values(F.weightStandardization(far)), values(want))).toBeLessThan(2.5e-7);
  });

  test("one weight a channel, and groups of a transposed convolution", () => {
    expect(() => weightStandardization(new Linear(1, 4))).toThrow(/more than one weight.*\[4, 1\]/);
    const grouped = new ConvTranspose2d(4, 4, 2, { groups: 2 });
    expect(() => weightStandardization(grouped)).toThrow(/without groups; got groups 2/);
    expect(() => weightStandardization(new Linear(3, 2), { eps: -1 })).toThrow(OptionError);
  });
});
