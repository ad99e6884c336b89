import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nn, scope, type Tensor } from "../../src/index.js";
import { convertTensors, loadSafetensors, loadTorch, openSafetensors, openTorch } from "../../src/io/index.js";

const file = (name: string): string => new URL(name, import.meta.url).pathname;
const { Sequential } = nn;

class Attention extends nn.Module {
  readonly attention = new nn.MultiheadAttention(4, 2, { batchFirst: true });
  readonly norm = new nn.LayerNorm(4);
  override forward(x: Tensor): Tensor {
    return this.norm.forward(x.add(this.attention.forward(x, x, x)));
  }
}

/** The layers of torch_checkpoint.py, under the same names. */
class Bank extends nn.Module {
  batch1d = new Sequential(new nn.Conv1d(4, 3, 2), new nn.BatchNorm1d(3));
  batchRows = new Sequential(new nn.Linear(4, 3), new nn.BatchNorm1d(3, { momentum: null }));
  batch2d = new Sequential(new nn.Conv2d(4, 3, 3, { bias: false }), new nn.BatchNorm2d(3), new nn.ReLU());
  batch3d = new Sequential(new nn.Conv3d(4, 2, 2), new nn.BatchNorm3d(2, { eps: 1e-3, momentum: 0.3 }));
  batchPlain = new Sequential(new nn.BatchNorm2d(4, { affine: false }));
  batchUntracked = new Sequential(new nn.BatchNorm2d(4, { trackRunningStats: false }));
  sync = new Sequential(new nn.Linear(4, 3), new nn.SyncBatchNorm(3));
  layer = new Sequential(new nn.Linear(4, 6), new nn.LayerNorm(6));
  layerPlane = new Sequential(new nn.LayerNorm([4, 3], { eps: 1e-3 }));
  layerImage = new Sequential(new nn.LayerNorm([4, 4, 3]));
  layerPlain = new Sequential(new nn.LayerNorm(4, { elementwiseAffine: false }), new nn.Linear(4, 2));
  group = new Sequential(new nn.Conv2d(4, 6, 2, { groups: 2 }), new nn.GroupNorm(3, 6));
  groupPlain = new Sequential(new nn.GroupNorm(2, 4, { affine: false }));
  instance1d = new Sequential(new nn.InstanceNorm1d(4, { affine: true, trackRunningStats: true }));
  instance2d = new Sequential(new nn.InstanceNorm2d(4));
  instance2dAffine = new Sequential(
    new nn.ConvTranspose2d(4, 3, 2, { stride: 2 }),
    new nn.InstanceNorm2d(3, { affine: true }),
  );
  instance3d = new Sequential(new nn.InstanceNorm3d(4, { trackRunningStats: true }));
  localResponse = new Sequential(new nn.Conv2d(4, 6, 1), new nn.LocalResponseNorm(5, { alpha: 0.5, beta: 0.75, k: 2 }));
  weight = new Sequential(nn.weightNorm(new nn.Conv2d(4, 3, 2)));
  weightWhole = new Sequential(nn.weightNorm(new nn.Linear(4, 3), { dim: null }));
  weightNew = new Sequential(nn.weightNorm(new nn.Linear(4, 3)));
  weightNewTransposed = new Sequential(nn.weightNorm(new nn.ConvTranspose1d(4, 2, 2), { dim: 1 }));
  spectral = new Sequential(nn.spectralNorm(new nn.Linear(4, 3)));
  spectralTransposed = new Sequential(nn.spectralNorm(new nn.ConvTranspose3d(4, 2, 2)));
  spectralNew = new Sequential(nn.spectralNorm(new nn.Conv2d(4, 3, 2)));
  embedding = new Sequential(new nn.Embedding(7, 4), new nn.LayerNorm(4));
  attention = new Attention();
  override forward(): never {
    throw new Error("its parts are called");
  }
}

// A float32 result is off by some roundings of 6e-8 relative to the largest value; a network of two or three layers adds a few.
const tolerances = { float64: 5e-15, float32: 1e-6 } as const;
const dtypes = ["float64", "float32"] as const;

let runs: Record<string, Tensor>;
const worst = { float64: 0, float32: 0 };
const parts = Object.keys(new Bank()).filter((name) => !["training", "heldInEval"].includes(name));
const torchName = (part: string): string => part.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);

beforeAll(() => {
  runs = loadSafetensors(file("torch_checkpoint_runs.safetensors"));
});
afterAll(() => {
  console.info(
    `torch checkpoint: ${parts.length} parts; largest error relative to the largest value: ` +
      dtypes.map((d) => `${worst[d].toExponential(1)} in ${d}`).join(", "),
  );
});

const formats = [
  ["pt", openTorch, loadTorch],
  ["safetensors", openSafetensors, loadSafetensors],
] as const;

describe.each(formats)("torch_checkpoint.%s", (format, open, load) => {
  test("gives every part torch's outputs, in evaluation and in training", async () => {
    const opened = await open(file(`torch_checkpoint.${format}`));
    const { tensors, report } = await convertTensors(opened, { from: "pytorch", to: "evenkeel" });
    opened.close();
    expect(report.counts).toMatchObject({ converted: 100, made: 0, dropped: 0, moved: 0 });
    for (const dtype of dtypes) {
      const bank = new Bank().to(dtype);
      for (const training of [false, true]) {
        for (const part of parts) {
          // Each call begins from the checkpoint: those in training move statistics.
          bank.loadStateDict(tensors);
          scope(() => {
            const name = torchName(part);
            const x = runs[`${name} x`]!;
            const wanted = runs[`${name} ${training ? "train" : "eval"} ${dtype}`]!;
            const module = (bank as unknown as Record<string, nn.Module>)[part]!.train(training);
            const y: Tensor = module.forward(x.dtype === "int32" ? x : x.cast(dtype));
            expect(y.shape, name).toEqual(wanted.shape);
            const error = largestError(y, wanted);
            worst[dtype] = Math.max(worst[dtype], error);
            expect(error, `${name}, ${dtype}, ${training ? "training" : "evaluation"}`).toBeLessThan(tolerances[dtype]);
          });
        }
      }
      bank.dispose();
    }
  });

  test("is loaded by name, and tells where parametrizations are written in torch's newer way", () => {
    const state = load(file(`torch_checkpoint.${format}`));
    const bank = new Bank().to("float64");
    expect(() => bank.loadStateDict(state)).toThrow(
      /weight_new\.0\.parametrizations\.weight\.original0 is weight_new\.0\.weight_g here/,
    );
    bank.loadStateDict(state, { strict: false });
    expect(scope(() => bank.stateDict()["batch2d.1.num_batches_tracked"]!.item())).toBe(4);
    for (const t of Object.values(state)) t.dispose();
    bank.dispose();
  });
});

test("both files hold the same bits", async () => {
  const [a, b] = [
    await openTorch(file("torch_checkpoint.pt")),
    await openSafetensors(file("torch_checkpoint.safetensors")),
  ];
  expect([...a.tensors.keys()].sort()).toEqual([...b.tensors.keys()].sort());
  for (const name of a.tensors.keys()) expect((await a.read(name)).data, name).toEqual((await b.read(name)).data);
  a.close();
  b.close();
});

function largestError(y: Tensor, wanted: Tensor): number {
  const [got, want] = [y.dataSync(), wanted.dataSync()];
  let [error, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    error = Math.max(error, Math.abs(got[i]! - want[i]!));
    size = Math.max(size, Math.abs(want[i]!));
    if (!Number.isFinite(got[i]!)) return Number.POSITIVE_INFINITY;
  }
  return error / size;
}
