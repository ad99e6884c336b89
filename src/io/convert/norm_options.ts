import { OptionError } from "../../base/errors.js";
import { checkChoice, checkNonNegative, checkProbability, readOptions } from "../../base/options.js";
import { layersByName } from "../keras/model_config.js";
import { type Framework, frameworkNames } from "./frameworks.js";
import type { LayerOptions } from "./report.js";
import type { NamedTensors } from "./sources.js";

/** Normalization layers that several frameworks have, under Evenkeel's names. */
export const normLayers = ["BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm"] as const;
export type NormLayer = (typeof normLayers)[number];

interface Meaning {
  /** Whether momentum weighs the statistics of the new batch or those that were. */
  readonly weighs: "new" | "old";
  readonly momentum: number;
  readonly runningVariance: "unbiased" | "biased";
  /** The channels' axis of its layers unless they say otherwise. */
  readonly axis: number;
  /** What the framework calls eps. */
  readonly epsName: "eps" | "epsilon";
  /** null: the machine epsilon of the input's type. */
  readonly eps: Readonly<Record<NormLayer, number | null>>;
}

const eps = (batch: number, layer: number, rms: number | null): Meaning["eps"] => ({
  ...{ BatchNorm: batch, LayerNorm: layer, GroupNorm: layer },
  ...{ InstanceNorm: layer, RMSNorm: rms },
});

const torch: Meaning = {
  ...{ weighs: "new", momentum: 0.1, runningVariance: "unbiased", axis: 1 },
  ...{ epsName: "eps", eps: eps(1e-5, 1e-5, null) },
};
const keras: Meaning = {
  ...{ weighs: "old", momentum: 0.99, runningVariance: "biased", axis: -1 },
  ...{ epsName: "epsilon", eps: eps(1e-3, 1e-3, 1e-6) },
};

const meanings: Readonly<Record<Framework, Meaning>> = {
  pytorch: torch,
  evenkeel: torch,
  keras,
  tfjs: keras,
  flax: { ...keras, eps: eps(1e-5, 1e-6, 1e-6) },
};

/** A layer's options in the meaning of the framework that it comes from; what is left out has that framework's default. */
export interface NormMeaning {
  readonly momentum?: number | null;
  readonly eps?: number | null;
  /** Where its channels lie. */
  readonly axis?: number | null;
}

/**
 * A normalization layer's options in another framework's meaning, complete: nothing is left to that one's defaults. momentum is
 * 1 - momentum between PyTorch and the others. A channel axis that is the framework's own becomes the other's own, as tensors of
 * images change their layout with the framework; any other stays. `runningVariance` is an option of Evenkeel alone: PyTorch's
 * running variance is unbiased, that of the others biased. Throws OptionError for other names and values.
 */
export function normOptions(
  layer: NormLayer,
  given: NormMeaning | undefined,
  from: Framework,
  to: Framework = "evenkeel",
): Record<string, number | string | null> {
  checkChoice("normOptions: layer", layer, normLayers);
  const source = meanings[checkChoice("normOptions: from", from, frameworkNames)];
  const target = meanings[checkChoice("normOptions: to", to, frameworkNames)];
  const absent = { momentum: undefined as number | null | undefined, axis: undefined as number | null | undefined };
  const o = readOptions("normOptions", given, { ...absent, eps: undefined as number | null | undefined });
  const value = o.eps === undefined ? source.eps[layer] : o.eps;
  if (value !== null) checkNonNegative("normOptions: eps", value);
  if (value === null && target.eps[layer] !== null) {
    const fix = "Give eps: 2^-23 is that of float32";
    throw new OptionError({ rule: `${to}'s ${layer} takes a number for eps`, got: "null, the machine epsilon", fix });
  }
  const common = { [target.epsName]: value };
  if (layer !== "BatchNorm") return common;
  const axis = o.axis ?? source.axis;
  const place = axis === source.axis ? target.axis : axis;
  return {
    ...common,
    momentum: momentumFor(o.momentum === undefined ? source.momentum : o.momentum, source, target),
    ...(place === target.axis ? {} : { axis: place }),
    ...(to === "evenkeel" && source.runningVariance === "biased" ? { runningVariance: "biased" } : {}),
  };
}

function momentumFor(momentum: number | null, source: Meaning, target: Meaning): number | null {
  if (momentum === null) {
    if (source.weighs === target.weighs) return null;
    const fix = "Give it as a number";
    throw new OptionError({ rule: "momentum null, the mean of all batches, is PyTorch's alone", got: "null", fix });
  }
  checkProbability("normOptions: momentum", momentum);
  // 1 - 0.99 is 0.010000000000000009.
  return source.weighs === target.weighs ? momentum : Number((1 - momentum).toPrecision(12));
}

const classes: Readonly<Record<string, NormLayer>> = {
  BatchNormalization: "BatchNorm",
  LayerNormalization: "LayerNorm",
  GroupNormalization: "GroupNorm",
  RMSNormalization: "RMSNorm",
};

/** Options of the normalization layers that a file's configuration describes. */
export function layerOptions({ config }: Pick<NamedTensors, "config">, from: Framework, to: Framework): LayerOptions[] {
  if (config === undefined || config === null || meanings[from].epsName !== "epsilon") return [];
  return [...layersByName(config)].flatMap(([layer, { class: name, options }]) => {
    if (!Object.hasOwn(classes, name)) return [];
    const kind = classes[name]!;
    const { epsilon, momentum, axis } = options as Readonly<Record<string, unknown>>;
    const said = (v: unknown) => (typeof v === "number" ? v : undefined);
    // Keras 2 saves the axis of a layer that was built as a list counted from the front: [3] for images with channels last.
    const place = Array.isArray(axis) ? (axis[0] === 1 ? 1 : -1) : axis;
    const given =
      kind === "BatchNorm"
        ? { eps: said(epsilon), momentum: said(momentum), axis: said(place) }
        : { eps: said(epsilon) };
    return [{ layer, kind, options: normOptions(kind, given as NormMeaning, from, to) }];
  });
}
