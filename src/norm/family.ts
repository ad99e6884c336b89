import type { DType } from "../base/dtype.js";

/**
 * The normalization layers as a table: what each one's statistics span, whether it centres, what shape its affine has,
 * whether it keeps running statistics, its defaults (PyTorch's) and its source. Layers read this; none restates it.
 */
export interface NormTraits {
  /**
   * What a statistic spans. batch: all but the channel axis. group, instance: per sample and channels. layer: the last
   * axes. position: the channels, at each position. window: neighbours. vector: one axis, as a norm. mixed: several of
   * these. none: there is no statistic.
   */
  readonly view: "batch" | "group" | "instance" | "layer" | "position" | "window" | "vector" | "mixed" | "none";
  /** Ranks of the input and how they read; absent where any rank goes. `unbatched` is the rank of a lone sample. */
  readonly ranks?: readonly number[];
  readonly layouts?: string;
  readonly unbatched?: number;
  /** False: divides by the root mean square, subtracts nothing, and has no bias. */
  readonly centred: boolean;
  /** Shape of weight and bias; "condition": they come from a second input. */
  readonly affineShape: "channels" | "normalizedShape" | "scalar" | "condition" | "none";
  readonly affine: boolean;
  /** null where the layer has no running statistics at all; else whether it keeps them unless told otherwise. */
  readonly trackRunningStats: boolean | null;
  /** null: the machine epsilon of the dtype. */
  readonly eps: number | null;
  readonly momentum: number | null;
  readonly source: string;
}

/** What most rows share: no running statistics. */
const still = { trackRunningStats: null, momentum: null } as const;

// The rows that others are made from.

const batch = {
  view: "batch",
  centred: true,
  affineShape: "channels",
  affine: true,
  trackRunningStats: true,
  eps: 1e-5,
  momentum: 0.1,
  source: "Ioffe & Szegedy 2015, arXiv:1502.03167",
} as const;

const instance = {
  ...batch,
  view: "instance",
  affine: false,
  trackRunningStats: false,
  source: "Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022",
} as const;

const group = { ...batch, ...still, view: "group", source: "Wu & He 2018, arXiv:1803.08494" } as const;

const layer = {
  ...group,
  view: "layer",
  affineShape: "normalizedShape",
  source: "Ba, Kiros & Hinton 2016, arXiv:1607.06450",
} as const;

const rms = { ...layer, centred: false, eps: null, source: "Zhang & Sennrich 2019, arXiv:1910.07467" } as const;

const window = {
  ...still,
  view: "window",
  centred: false,
  affineShape: "none",
  affine: false,
  eps: 1,
  source: "Krizhevsky, Sutskever & Hinton 2012",
} as const;

const vector = { ...window, view: "vector", eps: 1e-12, source: "Keras 3, UnitNormalization" } as const;

/** Without a statistic. */
const pointwise = { ...rms, view: "none" } as const;

const adaptive = { affine: true, affineShape: "condition" } as const;

const line = { layouts: "[N, C] or [N, C, L]" } as const;
const plane = { layouts: "[N, C, H, W]" } as const;
const volume = { layouts: "[N, C, D, H, W]" } as const;

export const family = {
  // over the batch
  BatchNorm: batch,
  BatchNorm1d: { ...batch, ...line, ranks: [2, 3] },
  BatchNorm2d: { ...batch, ...plane, ranks: [4] },
  BatchNorm3d: { ...batch, ...volume, ranks: [5] },
  SyncBatchNorm: { ...batch, source: "Peng et al. 2018, arXiv:1711.07240" },
  GhostBatchNorm: { ...batch, source: "Hoffer, Hubara & Soudry 2017, arXiv:1705.08741" },
  BatchRenorm: { ...batch, momentum: 0.01, source: "Ioffe 2017, arXiv:1702.03275" },
  VirtualBatchNorm: { ...batch, ...still, source: "Salimans et al. 2016, arXiv:1606.03498" },
  FrozenBatchNorm: { ...batch, momentum: null, source: "Wu et al. 2019, Detectron2" },
  InPlaceActivatedBatchNorm: { ...batch, source: "Rota Bulo, Porzi & Kontschieder 2018, arXiv:1712.02616" },
  MaskedBatchNorm: { ...batch, source: "Keras 3, BatchNormalization(mask)" },
  PowerNorm: { ...batch, centred: false, source: "Shen et al. 2020, arXiv:2003.07845" },
  ActNorm: { ...batch, ...still, eps: 1e-6, source: "Kingma & Dhariwal 2018, arXiv:1807.03039" },

  // over a sample, or a part of it
  GroupNorm: group,
  MaskedGroupNorm: group,
  InstanceNorm1d: { ...instance, layouts: "[N, C, L], or [C, L] for one sample", ranks: [2, 3], unbatched: 2 },
  InstanceNorm2d: { ...instance, layouts: "[N, C, H, W], or [C, H, W] for one sample", ranks: [3, 4], unbatched: 3 },
  InstanceNorm3d: {
    ...instance,
    layouts: "[N, C, D, H, W], or [C, D, H, W] for one sample",
    ranks: [4, 5],
    unbatched: 4,
  },
  MaskedInstanceNorm: { ...instance, ...still },
  LayerNorm: layer,
  AddLayerNorm: layer,
  RMSNorm: rms,
  AddRMSNorm: rms,
  LayerNorm2d: {
    ...group,
    ...plane,
    view: "position",
    ranks: [4],
    eps: 1e-6,
    source: "Liu et al. 2022, arXiv:2201.03545",
  },
  FilterResponseNorm: {
    ...group,
    view: "instance",
    centred: false,
    eps: 1e-6,
    source: "Singh & Krishnan 2019, arXiv:1911.09737",
  },

  // over a window, or a vector
  LocalResponseNorm: window,
  MapLRN: {
    ...window,
    layouts: "[N, C, L], [N, C, H, W] or [N, C, D, H, W]",
    ranks: [3, 4, 5],
    source: "Krizhevsky, Sutskever & Hinton 2012; PuzzleLib",
  },
  UnitNorm: vector,
  ScaleNorm: {
    ...vector,
    affineShape: "scalar",
    affine: true,
    eps: 1e-5,
    source: "Nguyen & Salazar 2019, arXiv:1910.05895",
  },

  // over several of these
  SwitchableNorm: { ...batch, view: "mixed", source: "Luo et al. 2018, arXiv:1806.10779" },
  EvoNormB0: { ...batch, view: "mixed", source: "Liu et al. 2020, arXiv:2004.02967" },
  EvoNormS0: { ...group, source: "Liu et al. 2020, arXiv:2004.02967" },
  GRN: { ...group, view: "mixed", centred: false, eps: 1e-6, source: "Woo et al. 2023, arXiv:2301.00808" },
  MeanVarianceNorm: {
    ...window,
    view: "mixed",
    centred: true,
    eps: 1e-9,
    source: "ONNX MeanVarianceNormalization",
  },

  // over nothing
  TLU: { ...pointwise, affineShape: "channels", source: "Singh & Krishnan 2019, arXiv:1911.09737" },
  DyT: { ...pointwise, source: "Zhu et al. 2025, arXiv:2503.10622" },
  Derf: { ...pointwise, source: "arXiv:2512.10938" },

  // with an affine from a condition
  ConditionalBatchNorm: { ...batch, ...adaptive, source: "de Vries et al. 2017, arXiv:1707.00683" },
  SPADE: { ...batch, ...adaptive, source: "Park et al. 2019, arXiv:1903.07291" },
  AdaIN: { ...instance, ...still, ...adaptive, source: "Huang & Belongie 2017, arXiv:1703.06868" },
  AdaLN: { ...layer, ...adaptive, eps: 1e-6, source: "Peebles & Xie 2023, arXiv:2212.09748" },
  AdaLNZero: { ...layer, ...adaptive, eps: 1e-6, source: "Peebles & Xie 2023, arXiv:2212.09748" },
  FiLM: { ...pointwise, ...adaptive, source: "Perez et al. 2018, arXiv:1709.07871" },
} as const satisfies Record<string, NormTraits>;

export type NormName = keyof typeof family;

/** The eps that null means: the machine epsilon of the type that x is stored in. */
export const machineEpsilon = (dtype: DType): number => (dtype === "float64" ? 2 ** -52 : 2 ** -23);
