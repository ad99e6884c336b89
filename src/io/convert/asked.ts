import { OptionError } from "../../base/errors.js";
import { checkBoolean, checkChoice, checkPositiveInteger, nearestName, readOptions } from "../../base/options.js";
import type { LayerKind } from "../../norm/tensor_names.js";
import { few } from "./frameworks.js";
import { layerKinds } from "./layer_kinds.js";
import { placeOf } from "./layer_names.js";
import type { Details, Dialect } from "./layouts.js";
import type { Asked } from "./read_layers.js";

/** What a file of tensors does not say of a layer. */
export interface KindOptions {
  readonly kind?: LayerKind | null;
  /** Heads of an attention layer (from PyTorch). */
  readonly heads?: number | null;
  /** Outputs for each channel of a depthwise or separable convolution (from PyTorch, Flax). Default 1. */
  readonly multiplier?: number | null;
  /** Flax's ConvTranspose(transpose_kernel=True). */
  readonly transposeKernel?: boolean;
  /** A norm's weight of several axes has the channels last in Keras and Flax, and first in PyTorch. */
  readonly moveChannels?: boolean;
}

export interface AskedOptions {
  /**
   * New names of layers, by the names that they have in the source without what is the framework's own ("layers/", "params/",
   * the tensor's name). A name stands for all that begins with it and a dot or slash; "" as the new one takes it away.
   */
  readonly rename?: Readonly<Record<string, string>> | ((layer: string) => string);
  /** Kinds of layers where tensors leave a doubt, by name as above. */
  readonly kinds?: Readonly<Record<string, LayerKind | KindOptions>>;
  /** Linear layers that follow a flattened image, with its [C, H, W]: their inputs are ordered C, H, W in PyTorch and H, W, C elsewhere. */
  readonly flatten?: Readonly<Record<string, readonly number[]>>;
}

export const askedDefaults = {
  rename: {} as NonNullable<AskedOptions["rename"]>,
  kinds: {} as NonNullable<AskedOptions["kinds"]>,
  flatten: {} as NonNullable<AskedOptions["flatten"]>,
};

export interface AskedOfLayers {
  readonly layers: ReadonlyMap<string, Asked>;
  /** Throws OptionError where an option names what is not there. */
  checkNames(paths: readonly string[]): void;
  readonly rename: (path: string) => string;
}

/** Reads the options that name layers. */
export function readAsked(o: Required<AskedOptions>, from: Dialect): AskedOfLayers {
  const pathOf = (name: string): string => placeOf[from](`${name}${from === "torch" ? "." : "/"}x`).path.join(".");
  const layers = new Map<string, Asked>();
  for (const [name, given] of Object.entries(o.kinds)) layers.set(pathOf(name), readKind(name, given));
  for (const [name, given] of Object.entries(o.flatten)) {
    const flatten = checkFlatten(name, given);
    const before = layers.get(pathOf(name));
    layers.set(pathOf(name), {
      kind: before?.kind ?? "linear",
      details: { ...before?.details, flatten },
    });
  }
  const renames = typeof o.rename === "function" ? new Map<string, string>() : readRenames(o.rename, pathOf);
  // The longest name that fits says most.
  const ordered = [...renames].sort(([a], [b]) => b.length - a.length);
  return {
    layers,
    checkNames(paths) {
      for (const name of layers.keys()) if (!paths.includes(name)) throw noLayer("kinds and flatten name", name, paths);
      for (const name of renames.keys()) {
        if (!paths.some((p) => begins(p, name))) throw noLayer("rename names", name, paths);
      }
    },
    rename(path) {
      if (typeof o.rename === "function") return String(o.rename(path)).replaceAll("/", ".");
      const found = ordered.find(([name]) => begins(path, name));
      if (!found) return path;
      return [found[1], path.slice(found[0].length).replace(/^\./, "")].filter((s) => s !== "").join(".");
    },
  };
}

const begins = (path: string, name: string): boolean => path === name || path.startsWith(`${name}.`);

function readRenames(table: Readonly<Record<string, string>>, pathOf: (name: string) => string): Map<string, string> {
  if (table === null || typeof table !== "object") {
    throw new OptionError({ rule: "rename is a table of names or a function", got: String(table) });
  }
  return new Map(Object.entries(table).map(([name, to]) => [pathOf(name), String(to).replaceAll("/", ".")]));
}

function readKind(name: string, given: LayerKind | KindOptions): Asked {
  const what = `kinds["${name}"]`;
  if (typeof given === "string") return { kind: checkChoice(what, given, layerKinds), details: {} };
  const o = readOptions(what, given, {
    ...{ kind: null as LayerKind | null, heads: null as number | null, multiplier: null as number | null },
    ...{ transposeKernel: false, moveChannels: false },
  });
  const implied = o.heads !== null ? "attention" : o.transposeKernel ? "convTranspose" : o.moveChannels ? "norm" : null;
  const kind = o.kind ?? implied;
  const details: Details = {
    ...(o.heads === null ? {} : { heads: checkPositiveInteger(`${what}.heads`, o.heads) }),
    ...(o.multiplier === null ? {} : { multiplier: checkPositiveInteger(`${what}.multiplier`, o.multiplier) }),
    transposeKernel: checkBoolean(`${what}.transposeKernel`, o.transposeKernel),
    moveChannels: checkBoolean(`${what}.moveChannels`, o.moveChannels),
  };
  return kind === null ? { details } : { kind: checkChoice(`${what}.kind`, kind, layerKinds), details };
}

function checkFlatten(name: string, given: readonly number[]): readonly number[] {
  const what = `flatten["${name}"]`;
  if (!Array.isArray(given) || given.length < 2) {
    throw new OptionError({
      rule: `${what} is the shape of what was flattened, channels first, as [C, H, W]`,
      got: Array.isArray(given) ? `[${given.join(", ")}]` : String(given),
    });
  }
  return given.map((d) => checkPositiveInteger(what, d));
}

function noLayer(rule: string, name: string, paths: readonly string[]): OptionError {
  const near = nearestName(name, paths);
  return new OptionError({
    rule: `${rule} layers of the source`,
    got: `"${name}"`,
    fix: near === undefined ? `There are ${few(paths)}` : `Did you mean "${near}"?`,
  });
}
