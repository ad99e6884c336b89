import { afterAll, describe, expect, test } from "vitest";
import { nn, scope, type Tensor } from "../../src/index.js";
import { convertTensors, loadNpz, normOptions, openTensors } from "../../src/io/index.js";

const file = (name: string): string => new URL(name, import.meta.url).pathname;

class Separable extends nn.Module {
  readonly depthwise = new nn.Conv2d(4, 4, 2, { groups: 4, bias: false });
  readonly pointwise = new nn.Conv2d(4, 3, 1);
  override forward(x: Tensor): Tensor {
    return this.pointwise.forward(this.depthwise.forward(x));
  }
}

/** eps and the like as the framework has them by default. */
const like = (layer: "BatchNorm" | "LayerNorm" | "GroupNorm" | "RMSNorm", from: "keras" | "flax") =>
  normOptions(layer, {}, from) as object;

class KerasModel extends nn.Module {
  conv = new nn.Conv2d(4, 5, [3, 2], { stride: 2 });
  grouped = new nn.Conv2d(4, 6, 2, { groups: 2 });
  up = new nn.ConvTranspose2d(4, 5, [3, 2], { stride: 2 });
  depthwise = new nn.Conv2d(4, 8, [2, 3], { groups: 4 });
  separable = new Separable();
  bn = new nn.BatchNorm2d(4, like("BatchNorm", "keras"));
  ln = new nn.LayerNorm(6, like("LayerNorm", "keras"));
  gn = new nn.GroupNorm(2, 4, like("GroupNorm", "keras"));
  rms = new nn.RMSNorm(6, like("RMSNorm", "keras"));
  emb = new nn.Embedding(7, 4);
  fc = new nn.Linear(80, 3);
  attention = new nn.MultiheadAttention(6, 2, { batchFirst: true });
  override forward(): never {
    throw new Error("its parts are called");
  }
}

class FlaxModel extends nn.Module {
  conv = new nn.Conv2d(4, 5, [3, 2], { stride: 2 });
  up = new nn.ConvTranspose2d(4, 5, [3, 2], { stride: 2 });
  bn = new nn.BatchNorm2d(4, like("BatchNorm", "flax"));
  ln = new nn.LayerNorm(6, like("LayerNorm", "flax"));
  gn = new nn.GroupNorm(2, 4, like("GroupNorm", "flax"));
  rms = new nn.RMSNorm(6, like("RMSNorm", "flax"));
  emb = new nn.Embedding(7, 4);
  fc = new nn.Linear(80, 3);
  attention = new nn.MultiheadAttention(6, 2, { batchFirst: true });
  override forward(): never {
    throw new Error("its parts are called");
  }
}

const frameworks = [
  {
    from: "keras",
    file: "channels_last.weights.h5",
    make: () => new KerasModel(),
    layers: {
      ...{ conv2d: "conv", conv2d_1: "grouped", conv2d_transpose: "up", depthwise_conv2d: "depthwise" },
      ...{ separable_conv2d: "separable", batch_normalization: "bn", layer_normalization: "ln" },
      ...{ group_normalization: "gn", rms_normalization: "rms", embedding: "emb", dense: "fc" },
      multi_head_attention: "attention",
    },
    flatten: "dense",
  },
  {
    from: "flax",
    file: "channels_last.msgpack",
    make: () => new FlaxModel(),
    layers: {
      ...{ Conv_0: "conv", ConvTranspose_0: "up", BatchNorm_0: "bn", LayerNorm_0: "ln", GroupNorm_0: "gn" },
      ...{ RMSNorm_0: "rms", Embed_0: "emb", Dense_0: "fc", MultiHeadDotProductAttention_0: "attention" },
    },
    flatten: "Dense_0",
  },
] as const;

// Sums of up to 80 products, in another order than the recorded ones.
const tolerances = { float64: 1e-14, float32: 2e-6 } as const;
const worst = { float64: 0, float32: 0 };
afterAll(() => {
  console.info(
    `channels last: largest error relative to the largest value ${worst.float64.toExponential(1)} in float64, ` +
      `${worst.float32.toExponential(1)} in float32`,
  );
});

describe.each(frameworks)("$from's layers", ({ from, file: name, make, layers, flatten }) => {
  test.each(["float64", "float32"] as const)("compute the same after conversion, in %s", async (dtype) => {
    const runs = loadNpz(file("channels_last_runs.npz"));
    const model = make().to(dtype).eval();
    const source = await openTensors(file(name));
    const { tensors, report } = await convertTensors(source, {
      ...{ to: "evenkeel", rename: layers, template: model },
      flatten: { [flatten]: [4, 5, 4] },
    });
    expect(report.from).toBe(from);
    expect(report.missing).toEqual([]);
    expect(report.leftOver).toEqual([]);
    expect(report.entries.every((e) => e.by === "name")).toBe(true);
    model.loadStateDict(tensors);
    for (const [there, here] of Object.entries(layers)) {
      scope(() => {
        const x = runs[`${from} ${there} x`]!;
        const y = runs[`${from} ${there} y`]!;
        const got = called((model as unknown as Record<string, nn.Module>)[here]!, here, x, dtype);
        expect(got.shape, there).toEqual(y.shape);
        const size = y.abs().max().item();
        const error = got.cast("float64").sub(y).abs().max().item() / size;
        worst[dtype] = Math.max(worst[dtype], error);
        expect(error, there).toBeLessThan(tolerances[dtype]);
      });
    }
    // And back: the file's own names, shapes and bits.
    const back = await convertTensors(tensors, {
      ...{ from: "evenkeel", to: from, template: source, flatten: { fc: [4, 5, 4] } },
      rename: Object.fromEntries(Object.entries(layers).map(([there, here]) => [here, there])),
    });
    expect([...back.tensors.keys()].sort()).toEqual([...source.tensors.keys()].sort());
    for (const n of source.tensors.keys()) {
      const read = await source.read(n);
      expect(back.tensors.get(n)!.shape, n).toEqual(read.shape);
      expect(back.tensors.get(n)!.data, n).toEqual(read.data);
    }
    source.close();
    model.dispose();
  });

  test("are found by kind and shapes where names say nothing", async () => {
    const model = make();
    const source = await openTensors(file(name));
    const separable: Record<string, string> = from === "keras" ? { separable_conv2d: "separable" } : {};
    const { report } = await convertTensors(source, { to: "evenkeel", template: model, rename: separable });
    expect(report.missing).toEqual([]);
    expect(report.leftOver).toEqual([]);
    const wanted = new Map<string, string>(Object.entries(layers));
    for (const { from: sources, to } of report.entries) {
      const layer = sources[0]?.split("/").find((part) => wanted.has(part));
      if (layer !== undefined) expect(to!.startsWith(`${wanted.get(layer)}.`), `${sources} to ${to}`).toBe(true);
    }
    source.close();
    model.dispose();
  });
});

/** Channels last outside, first inside. */
function called(module: nn.Module, name: string, x: Tensor, dtype: "float64" | "float32"): Tensor {
  if (x.dtype === "int32") return module.forward(x);
  const given = x.cast(dtype);
  if (name === "attention") return module.forward(given, given, given);
  if (x.rank !== 4) return module.forward(given);
  const first = given.permute([0, 3, 1, 2]);
  if (name === "fc") return module.forward(first.reshape([x.shape[0]!, -1]));
  return module.forward(first).permute([0, 2, 3, 1]);
}
