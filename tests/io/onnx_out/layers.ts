import type { Random } from "../../../src/base/random.js";
import { F, nn, Tensor, tensor } from "../../../src/index.js";

/** A layer with arguments for its forward. */
export interface LayerCase {
  readonly make: () => nn.Module;
  readonly inputs: (r: Random) => unknown[];
  /** Where the inputs have the batch, by name; default axis 0 of all. null: the batch size is fixed, for the reason given. */
  readonly batch?: Readonly<Record<string, number>> | { readonly fixed: string };
}

const normal =
  (shape: readonly number[], scale = 1, shift = 0) =>
  (r: Random) =>
    tensor(
      Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() * scale + shift),
      { shape, dtype: "float32" },
    );
const below = (n: number, shape: readonly number[]) => (r: Random) =>
  tensor(
    Int32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.floor(r.uniform() * n)),
    { shape },
  );
const mask = (shape: readonly number[]) => (r: Random) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) =>
      i % 5 === 0 || r.uniform() < 0.6 ? 1 : 0,
    ),
    { shape },
  );

type Draw = (r: Random) => unknown;
const of = (make: () => nn.Module, ...draws: Draw[]): LayerCase => ({
  make,
  inputs: (r) => draws.map((draw) => draw(r)),
});

/** A module from a function, as a user's own would be. */
class Lambda extends nn.Module {
  constructor(
    private readonly body: (...inputs: Tensor[]) => unknown,
    readonly inner: nn.Module | null = null,
  ) {
    super();
  }

  override forward(...inputs: Tensor[]): Tensor {
    return this.body(...inputs) as Tensor;
  }
}
export const lambda = (body: (...inputs: Tensor[]) => unknown, inner: nn.Module | null = null): nn.Module =>
  new Lambda(body, inner);

const rows = normal([4, 6], 2, 0.5);
const line = normal([2, 6, 9], 1.5, -0.7);
const plane = normal([2, 6, 5, 7], 2, 0.4);
const volume = normal([2, 4, 3, 5, 4]);
const last = normal([3, 5, 6], 1.3, 0.2);
const vector = normal([2, 3]);

const activations: Record<string, LayerCase> = {
  ReLU: of(() => new nn.ReLU(), plane),
  LeakyReLU: of(() => new nn.LeakyReLU(0.2), plane),
  GELU: of(() => new nn.GELU(), plane),
  "GELU tanh": of(() => new nn.GELU({ approximate: "tanh" }), plane),
  SiLU: of(() => new nn.SiLU(), plane),
  Sigmoid: of(() => new nn.Sigmoid(), plane),
  Tanh: of(() => new nn.Tanh(), plane),
  Softmax: of(() => new nn.Softmax(), rows),
  "Softmax of channels": of(() => new nn.Softmax(1), plane),
  LogSoftmax: of(() => new nn.LogSoftmax(), rows),
};

const plain: Record<string, LayerCase> = {
  Linear: of(() => new nn.Linear(6, 5), rows),
  "Linear of sequences": of(() => new nn.Linear(6, 5), last),
  "Linear without bias": of(() => new nn.Linear(6, 5, { bias: false }), rows),
  "Linear of a vector": { ...of(() => new nn.Linear(6, 5), normal([6])), batch: { fixed: "there is none" } },
  Conv1d: of(() => new nn.Conv1d(6, 4, 3, { stride: 2, padding: 1 }), line),
  Conv2d: of(() => new nn.Conv2d(6, 4, [3, 2], { stride: [2, 1], padding: [1, 0], dilation: [1, 2] }), plane),
  "Conv2d in groups": of(() => new nn.Conv2d(6, 9, 3, { groups: 3, bias: false }), plane),
  "Conv2d same, even": of(() => new nn.Conv2d(6, 4, 2, { padding: "same" }), plane),
  "Conv2d of one sample": { ...of(() => new nn.Conv2d(6, 4, 3), normal([6, 5, 7])), batch: { fixed: "there is none" } },
  Conv3d: of(() => new nn.Conv3d(4, 3, 2), volume),
  ConvTranspose1d: of(() => new nn.ConvTranspose1d(6, 4, 3, { stride: 2, outputPadding: 1 }), line),
  ConvTranspose2d: of(
    () => new nn.ConvTranspose2d(6, 4, 3, { stride: [2, 3], padding: 1, outputPadding: [1, 2], groups: 2 }),
    plane,
  ),
  ConvTranspose3d: of(() => new nn.ConvTranspose3d(4, 3, 2, { bias: false }), volume),
  MaxPool1d: of(() => new nn.MaxPool1d(3, { stride: 2, padding: 1 }), line),
  MaxPool2d: of(() => new nn.MaxPool2d([3, 2], { dilation: [1, 2] }), plane),
  "MaxPool2d ceil": of(() => new nn.MaxPool2d(3, { stride: 2, ceilMode: true, padding: 1 }), plane),
  MaxPool3d: of(() => new nn.MaxPool3d(2), volume),
  AvgPool1d: of(() => new nn.AvgPool1d(3, { stride: 2, padding: 1 }), line),
  AvgPool2d: of(() => new nn.AvgPool2d(3, { stride: 2, padding: 1, countIncludePad: false }), plane),
  "AvgPool2d ceil": of(() => new nn.AvgPool2d(2, { stride: 2, ceilMode: true }), plane),
  "AvgPool2d ceil with padding": of(() => new nn.AvgPool2d(3, { stride: 3, padding: 1, ceilMode: true }), plane),
  AvgPool3d: of(() => new nn.AvgPool3d(2), volume),
  AdaptiveAvgPool1d: of(() => new nn.AdaptiveAvgPool1d(3), line),
  AdaptiveAvgPool2d: of(() => new nn.AdaptiveAvgPool2d(1), plane),
  "AdaptiveAvgPool2d uneven": of(() => new nn.AdaptiveAvgPool2d([3, 4]), plane),
  AdaptiveAvgPool3d: of(() => new nn.AdaptiveAvgPool3d([2, null, 3]), volume),
  Embedding: of(() => new nn.Embedding(11, 5, { paddingIdx: 0 }), below(11, [3, 4])),
  Flatten: of(() => new nn.Flatten(), plane),
  Identity: of(() => new nn.Identity(), plane),
  Dropout: of(() => new nn.Dropout(0.5), plane),
  Residual: of(() => new nn.Residual(new nn.Conv2d(6, 6, 3, { padding: 1 })), plane),
  Sequential: of(() => new nn.Sequential(new nn.Linear(6, 5), new nn.Tanh()), rows),
  Checkpoint: of(() => new nn.Checkpoint(new nn.Linear(6, 5)), rows),
  MultiheadAttention: {
    ...of(() => new nn.MultiheadAttention(6, 2), normal([5, 3, 6]), normal([4, 3, 6]), normal([4, 3, 6])),
    batch: { input_0: 1, input_1: 1, input_2: 1 },
  },
  "MultiheadAttention of itself": {
    make: () => {
      const attention = new nn.MultiheadAttention(6, 3, { batchFirst: true });
      return lambda((x) => attention.forward(x!, x!, x!, { isCausal: true }), attention);
    },
    inputs: (r) => [last(r)],
  },
  "MultiheadAttention masked": {
    make: () => new nn.MultiheadAttention(6, 2, { batchFirst: true, kdim: 5, vdim: 4 }),
    inputs: (r) => [
      ...[normal([2, 3, 6])(r), normal([2, 4, 5])(r), normal([2, 4, 4])(r)],
      { keyPaddingMask: tensor(Int32Array.of(0, 0, 1, 0, 0, 1, 0, 0), { shape: [2, 4] }) },
    ],
  },
};

const losses: Record<string, LayerCase> = {
  BCEWithLogitsLoss: of(() => new nn.BCEWithLogitsLoss(), rows, mask([4, 6])),
  CrossEntropyLoss: of(() => new nn.CrossEntropyLoss(), rows, below(6, [4])),
  "CrossEntropyLoss smoothed": of(
    () => new nn.CrossEntropyLoss({ labelSmoothing: 0.1, ignoreIndex: 2, reduction: "sum" }),
    normal([4, 5, 3]),
    below(5, [4, 3]),
  ),
  HuberLoss: of(() => new nn.HuberLoss(), rows, rows),
  L1Loss: of(() => new nn.L1Loss(), rows, rows),
  MSELoss: of(() => new nn.MSELoss({ reduction: "none" }), rows, rows),
};
const norms: Record<string, LayerCase> = {
  BatchNorm: of(() => new nn.BatchNorm(6), plane),
  "BatchNorm channels last": of(() => new nn.BatchNorm(6, { axis: -1 }), last),
  BatchNorm1d: of(() => new nn.BatchNorm1d(6), rows),
  "BatchNorm1d of sequences": of(() => new nn.BatchNorm1d(6, { activation: "relu" }), line),
  BatchNorm2d: of(() => new nn.BatchNorm2d(6, { activation: "gelu" }), plane),
  "BatchNorm2d without affine": of(() => new nn.BatchNorm2d(6, { affine: false }), plane),
  "BatchNorm2d by the batch": { ...of(() => new nn.BatchNorm2d(6, { trackRunningStats: false }), plane) },
  BatchNorm3d: of(() => new nn.BatchNorm3d(4), volume),
  BatchRenorm: of(() => new nn.BatchRenorm(6), plane),
  SyncBatchNorm: of(() => new nn.SyncBatchNorm(6), plane),
  GhostBatchNorm: of(() => new nn.GhostBatchNorm(6, { virtualBatchSize: 2 }), plane),
  FrozenBatchNorm: of(() => new nn.FrozenBatchNorm(6), plane),
  VirtualBatchNorm: of(() => new nn.VirtualBatchNorm(6), plane),
  InPlaceActivatedBatchNorm: of(() => {
    const layer = new nn.InPlaceActivatedBatchNorm(6);
    return lambda((x) => layer.forward(x!.mul(2)), layer);
  }, plane),
  MaskedBatchNorm: of(() => new nn.MaskedBatchNorm(6), line, mask([2, 9])),
  "MaskedBatchNorm without a mask": of(() => new nn.MaskedBatchNorm(6, { axis: -1 }), last),
  "MaskedBatchNorm by the batch": of(
    () => new nn.MaskedBatchNorm(6, { trackRunningStats: false, padded: "keep" }),
    line,
    mask([2, 9]),
  ),
  ConditionalBatchNorm: of(() => new nn.ConditionalBatchNorm(6, 4), plane, below(4, [2])),
  "ConditionalBatchNorm of vectors": of(
    () => new nn.ConditionalBatchNorm(6, 3, { condition: "vector", axis: -1 }),
    normal([2, 4, 6]),
    vector,
  ),
  LayerNorm: of(() => new nn.LayerNorm(6), last),
  "LayerNorm of two axes": of(() => new nn.LayerNorm([5, 6], { activation: "silu" }), last),
  "LayerNorm without affine": of(() => new nn.LayerNorm(6, { elementwiseAffine: false }), last),
  LayerNorm2d: of(() => new nn.LayerNorm2d(6), plane),
  GroupNorm: of(() => new nn.GroupNorm(3, 6), plane),
  "GroupNorm of rows": of(() => new nn.GroupNorm(2, 6), rows),
  "GroupNorm channels last": of(() => new nn.GroupNorm(2, 6, { axis: -1 }), last),
  "GroupNorm with relu": of(() => new nn.GroupNorm(1, 6, { affine: false, activation: "relu" }), line),
  InstanceNorm1d: of(() => new nn.InstanceNorm1d(6, { affine: true }), line),
  InstanceNorm2d: of(() => new nn.InstanceNorm2d(6), plane),
  "InstanceNorm2d by running statistics": of(() => new nn.InstanceNorm2d(6, { trackRunningStats: true }), plane),
  InstanceNorm3d: of(() => new nn.InstanceNorm3d(4, { affine: true }), volume),
  MaskedGroupNorm: of(() => new nn.MaskedGroupNorm(2, 6), line, mask([2, 9])),
  MaskedInstanceNorm: of(
    () => new nn.MaskedInstanceNorm(6, { affine: true, axis: -1, padded: "keep" }),
    last,
    mask([3, 5]),
  ),
  RMSNorm: of(() => new nn.RMSNorm(6), last),
  "RMSNorm with an offset": of(() => new nn.RMSNorm(6, { weightOffset: 1 }), last),
  AddLayerNorm: of(() => new nn.AddLayerNorm(6), last, last),
  AddRMSNorm: of(() => new nn.AddRMSNorm(6), last, last),
  ActNorm: of(() => new nn.ActNorm(6), plane),
  PowerNorm: of(() => new nn.PowerNorm(6, { warmupIters: 1 }), plane),
  "PowerNorm in groups": of(() => new nn.PowerNorm(6, { groups: 2 }), line),
  SwitchableNorm: of(() => new nn.SwitchableNorm(6), plane),
  EvoNormB0: of(() => new nn.EvoNormB0(6), plane),
  EvoNormS0: of(() => new nn.EvoNormS0(6, { groups: 2 }), plane),
  FilterResponseNorm: of(() => new nn.FilterResponseNorm(6), plane),
  "FilterResponseNorm with learned eps": of(() => new nn.FilterResponseNorm(6, { learnableEps: true }), plane),
  TLU: of(() => new nn.TLU(6), plane),
  GRN: of(() => new nn.GRN(6), plane),
  GlobalResponseNorm: of(() => new nn.GlobalResponseNorm(6, { axis: -1 }), normal([2, 4, 3, 6])),
  DyT: of(() => new nn.DyT(6), last),
  Derf: of(() => new nn.Derf(6), last),
  UnitNorm: of(() => new nn.UnitNorm(), last),
  "UnitNorm of channels": of(() => new nn.UnitNorm(1), plane),
  "UnitNorm without eps": of(() => new nn.UnitNorm(-1, { eps: 0 }), last),
  ScaleNorm: of(() => new nn.ScaleNorm(6), last),
  MeanVarianceNorm: { ...of(() => new nn.MeanVarianceNorm(), plane) },
  "MeanVarianceNorm of planes": of(() => new nn.MeanVarianceNorm({ axes: [2, 3], eps: 0.1 }), plane),
  LocalResponseNorm: of(() => new nn.LocalResponseNorm(3, { alpha: 0.5 }), plane),
  "LocalResponseNorm even": of(() => new nn.LocalResponseNorm(4, { alpha: 0.5, beta: 0.5 }), plane),
  "LocalResponseNorm leaning right": of(() => new nn.LocalResponseNorm(4, { alpha: 0.5, lean: "right" }), plane),
  "LocalResponseNorm channels last": of(() => new nn.LocalResponseNorm(3, { alpha: 0.5, axis: -1 }), last),
  MapLRN: of(() => new nn.MapLRN(3, { alpha: 0.5 }), plane),
  "MapLRN even": of(() => new nn.MapLRN(2, { alpha: 0.5, lean: "right" }), line),
  AdaIN: of(() => new nn.AdaIN(6, 3), plane, vector),
  AdaLN: of(() => new nn.AdaLN(6, 3), normal([2, 5, 6]), vector),
  AdaLNZero: of(() => new nn.AdaLNZero(6, 3), normal([2, 5, 6]), vector),
  FiLM: of(() => new nn.FiLM(6, 3), plane, vector),
  SPADE: of(() => new nn.SPADE(6, 2, { hidden: 4 }), plane, normal([2, 2, 5, 7])),
  "SPADE resized": of(() => new nn.SPADE(6, 2, { hidden: 4, base: "instance" }), plane, normal([2, 2, 3, 4])),
  weightNorm: of(() => nn.weightNorm(new nn.Linear(6, 5)), rows),
  spectralNorm: of(() => nn.spectralNorm(new nn.Conv2d(6, 4, 3)), plane),
  weightStandardization: of(() => nn.weightStandardization(new nn.Conv2d(6, 4, 3)), plane),
};

const functions: Record<string, LayerCase> = {
  "F.adaIN": of(() => lambda((x, y) => F.adaIN(x!, y!)), plane, normal([2, 6, 3])),
  "F.normalize of order 3": of(() => lambda((x) => F.normalize(x!, { p: 3 })), rows),
  "unary methods": of(
    () =>
      lambda((x) => {
        const positive = x!.abs().add(0.1);
        const parts = [
          ...[x!.neg(), x!.sign(), x!.square(), positive.sqrt(), positive.rsqrt(), positive.reciprocal()],
          ...[x!.exp(), positive.log(), x!.mul(1e-4).log1p(), x!.mul(1e-4).expm1(), x!.log1p(), x!.expm1()],
          ...[x!.erf(), x!.softplus(), x!.sin(), x!.cos(), x!.floor(), x!.ceil(), x!.mul(2).round()],
          ...[x!.log().isNaN(), x!.floor().logicalNot()],
        ];
        return parts;
      }),
    rows,
  ),
  "binary methods": of(
    () =>
      lambda((a, b) => [
        ...[a!.add(b!), a!.sub(b!), a!.mul(b!), a!.div(b!), a!.abs().pow(b!), a!.maximum(b!), a!.minimum(b!)],
        ...[a!.equal(b!), a!.notEqual(b!), a!.less(b!), a!.lessEqual(b!), a!.greater(b!), a!.greaterEqual(b!)],
        ...[a!.round().equal(b!.round()).logicalNot(), a!.greater(0).mul(b!)],
      ]),
    rows,
    rows,
  ),
  movement: of(
    () =>
      lambda((x) => [
        ...[
          x!.transpose(),
          x!.permute([2, 0, 3, 1]),
          x!.flip([1, 3]),
          x!.narrow(1, 2, 3),
          x!.slice([0, 1, 2], [-1, 2, 2]),
        ],
        ...[
          x!.pad(
            [
              [0, 0],
              [1, 0],
              [2, 3],
              [0, 1],
            ],
            0.5,
          ),
          x!.concat([x!, x!.neg()], 2),
          x!.reshape([2, 3, 2, 35]),
        ],
        ...[
          x!.narrow(2, 0, 1).expand(x!.shape),
          x!.matmul(x!, { transposeB: true }),
          x!.matmul(x!, { transposeA: true }),
        ],
      ]),
    plane,
  ),
  reductions: of(
    () =>
      lambda((x) => [
        ...[
          x!.sum([2, 3]),
          x!.mean([1, 3], true),
          x!.max(2),
          x!.min([1, 2]),
          x!.narrow(3, 0, 3).prod(3),
          x!.variance(1),
        ],
        ...[x!.argMax(1), x!.sumTo([6, 1, 7])],
      ]),
    plane,
  ),
  integers: of(
    () => lambda((x) => [x!.add(2), x!.mul(3).cast("float32"), x!.neg().abs(), x!.mul(0.5), x!.floor(), x!.equal(3)]),
    below(7, [3, 4]),
  ),
};
functions.movement = { ...functions.movement!, batch: { fixed: "a reshape to lengths in numbers" } };

/** Every layer of nn, by name; several forms of one have its name first. */
export const layers: Readonly<Record<string, LayerCase>> = {
  ...{ ...activations, ...plain, ...losses, ...norms, ...functions },
};
export { Tensor };
