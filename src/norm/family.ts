import type { DType } from "../base/dtype.js";

/**
 * The normalization layers as a table: what each one's statistics span, whether it centres, what shape its affine has,
 * whether it keeps running statistics, its defaults (PyTorch's) and its source. Layers read this; none restates it.
 */
export interface NormTraits {
  /** batch: all but the channel axis. group, instance: per sample and channels. layer: the last axes. */
  readonly view: "batch" | "group" | "instance" | "layer";
  /** Ranks of the input and how they read; absent where any rank goes. `unbatched` is the rank of a lone sample. */
  readonly ranks?: readonly number[];
  readonly layouts?: string;
  readonly unbatched?: number;
  /** False: divides by the root mean square, subtracts nothing, and has no bias. */
  readonly centred: boolean;
  /** Shape of weight and bias. */
  readonly affineShape: "channels" | "normalizedShape";
  readonly affine: boolean;
  /** null where the layer has no running statistics at all; else whether it keeps them unless told otherwise. */
  readonly trackRunningStats: boolean | null;
  /** null: the machine epsilon of the dtype. */
  readonly eps: number | null;
  readonly momentum: number | null;
  readonly source: string;
}

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
  view: "instance",
  centred: true,
  affineShape: "channels",
  affine: false,
  trackRunningStats: false,
  eps: 1e-5,
  momentum: 0.1,
  source: "Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022",
} as const;

const line = { layouts: "[N, C] or [N, C, L]" } as const;
const plane = { layouts: "[N, C, H, W]" } as const;
const volume = { layouts: "[N, C, D, H, W]" } as const;

export const family = {
  BatchNorm: batch,
  BatchNorm1d: { ...batch, ...line, ranks: [2, 3] },
  BatchNorm2d: { ...batch, ...plane, ranks: [4] },
  BatchNorm3d: { ...batch, ...volume, ranks: [5] },
  GroupNorm: {
    view: "group",
    centred: true,
    affineShape: "channels",
    affine: true,
    trackRunningStats: null,
    eps: 1e-5,
    momentum: null,
    source: "Wu & He 2018, arXiv:1803.08494",
  },
  LayerNorm: {
    view: "layer",
    centred: true,
    affineShape: "normalizedShape",
    affine: true,
    trackRunningStats: null,
    eps: 1e-5,
    momentum: null,
    source: "Ba, Kiros & Hinton 2016, arXiv:1607.06450",
  },
  InstanceNorm1d: { ...instance, layouts: "[N, C, L], or [C, L] for one sample", ranks: [2, 3], unbatched: 2 },
  InstanceNorm2d: { ...instance, layouts: "[N, C, H, W], or [C, H, W] for one sample", ranks: [3, 4], unbatched: 3 },
  InstanceNorm3d: {
    ...instance,
    layouts: "[N, C, D, H, W], or [C, D, H, W] for one sample",
    ranks: [4, 5],
    unbatched: 4,
  },
  RMSNorm: {
    view: "layer",
    centred: false,
    affineShape: "normalizedShape",
    affine: true,
    trackRunningStats: null,
    eps: null,
    momentum: null,
    source: "Zhang & Sennrich 2019, arXiv:1910.07467",
  },
} as const satisfies Record<string, NormTraits>;

export type NormName = keyof typeof family;

/** The eps that null means: the machine epsilon of the type that x is stored in. */
export const machineEpsilon = (dtype: DType): number => (dtype === "float64" ? 2 ** -52 : 2 ** -23);
