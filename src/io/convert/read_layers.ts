import { FormatError } from "../../base/errors.js";
import type { LayerKind } from "../../norm/tensor_names.js";
import { parametrizedNames, tensorNames } from "../../norm/tensor_names.js";
import type { KerasFile } from "../keras/keras_file.js";
import type { TensorInfo } from "../tensor_file.js";
import { compositeSlots, layerKinds, type Reading, readingAs, readingsOf, slotOf } from "./layer_kinds.js";
import { numberedSlots, type Place, placeOf, placeOfVariable } from "./layer_names.js";
import type { Details, Dialect } from "./layouts.js";
import { fromFile, type Value } from "./value.js";

/** What is said of a layer in words, beside its tensors. */
export interface Asked {
  readonly kind?: LayerKind;
  readonly details: Details;
}

/** Tensors of one layer. */
export interface Layer {
  /** Dots between its parts, whatever the framework writes. */
  readonly path: string;
  /** The file's name of each tensor, by its name inside of the layer; "" where the tensor is alone and of no known kind. */
  readonly names: ReadonlyMap<string, string>;
  readonly slots: ReadonlyMap<string, Value>;
  /** What kind it can be, the likeliest first; none for a tensor alone. */
  readonly readings: readonly Reading[];
}

export interface LayersRead {
  /** In the order of the file. */
  readonly layers: readonly Layer[];
  /** Tensors that are no part of the model, and why. */
  readonly aside: ReadonlyMap<string, string>;
}

interface Item {
  readonly path: readonly string[];
  readonly slot: string;
  readonly name: string;
  readonly info: TensorInfo;
  readonly assumed: string | null;
}

/** The names that tensors have in layers of any known kind. */
const knownSlots: Readonly<Record<Dialect, ReadonlySet<string>>> = {
  torch: new Set([...allSlots("torch"), ...parametrizedNames.map(([short]) => short)]),
  keras: new Set(allSlots("keras")),
  flax: new Set(allSlots("flax")),
};

function allSlots(dialect: Dialect): string[] {
  return layerKinds.flatMap((kind) =>
    Object.keys(tensorNames[kind]).flatMap((role) => slotOf(kind, role, dialect) ?? []),
  );
}

/**
 * Sorts tensors by the layers that their names tell. `separable` names layers whose parts PyTorch writes as two convolutions.
 * Throws FormatError where two names mean the same tensor, and where a layer is not of the kind asked for.
 */
export function readLayers(
  dialect: Dialect,
  tensors: ReadonlyMap<string, TensorInfo>,
  asked: ReadonlyMap<string, Asked>,
  separable: ReadonlySet<string>,
  variables: KerasFile["variables"] = new Map(),
): LayersRead {
  const aside = new Map<string, string>();
  const items = placed(dialect, tensors, variables, aside);
  const groups = grouped(dialect, items, separable);
  const layers = [...groups].flatMap(([path, group]) => layersOf(dialect, path, group, asked.get(path)));
  return { layers, aside };
}

/** Tensors with their places, those that a file only numbers with names. */
function placed(
  dialect: Dialect,
  tensors: ReadonlyMap<string, TensorInfo>,
  variables: KerasFile["variables"],
  aside: Map<string, string>,
): Item[] {
  const numbered = new Map<string, { place: Place; name: string; info: TensorInfo }[]>();
  const places: { place: Place; name: string; info: TensorInfo }[] = [];
  for (const [name, info] of tensors) {
    const place = placeOfVariable(variables.get(name)) ?? placeOf[dialect](name);
    const entry = { place, name, info };
    if (place.aside !== null) aside.set(name, place.aside);
    else places.push(entry);
    if (place.aside === null && place.slot === null) {
      const key = place.path.join(".");
      numbered.set(key, [...(numbered.get(key) ?? []), entry]);
    }
  }
  const names = new Map<string, { slot: string; assumed: string | null }>();
  for (const group of numbered.values()) {
    group.sort((a, b) => a.place.number - b.place.number);
    const infos = group.map((g) => g.info);
    const { slots, assumed } = numberedSlots(group[0]!.place.path, infos);
    for (const [i, { name }] of group.entries()) names.set(name, { slot: slots[i]!, assumed });
  }
  return places.map(({ place, name, info }) => {
    const { slot, assumed } = names.get(name) ?? { slot: depthwiseName(place), assumed: null };
    return { path: place.path, slot, name, info, assumed };
  });
}

/** Keras 3 calls the kernel of a depthwise convolution `kernel`, as it does others; the layer's own name tells. */
const depthwiseName = ({ path, slot }: Place): string =>
  slot === "kernel" && /^depthwise_conv/.test(path.at(-1) ?? "") ? "depthwise_kernel" : slot!;

function grouped(
  dialect: Dialect,
  items: readonly Item[],
  separable: ReadonlySet<string>,
): Map<string, Map<string, Item>> {
  const byName = new Map(items.map((item) => [[...item.path, item.slot].join("."), item]));
  const owners = new Map<Item, { path: string; slot: string }>();
  const claim = (path: string, slots: readonly string[]) => {
    for (const slot of slots) {
      const item = byName.get(path === "" ? slot : `${path}.${slot}`);
      if (item) owners.set(item, { path, slot });
    }
  };
  for (const path of separable) claim(path, compositeSlots.separable[dialect]);
  for (const path of attentionPaths(dialect, byName)) claim(path, compositeSlots.attention[dialect]);
  const strange = strangers(dialect, items, owners);
  const groups = new Map<string, Map<string, Item>>();
  for (const item of items) {
    const { path, slot } = owners.get(item) ?? { path: item.path.join("."), slot: item.slot };
    const known = owners.has(item) || (knownSlots[dialect].has(slot) && !strange.has(path));
    const [key, inside] = known ? [path, slot] : [[...item.path, slot].join("."), ""];
    const group = groups.get(key) ?? new Map<string, Item>();
    const other = group.get(inside);
    if (other) throw twice(item.name, other.name);
    groups.set(key, group.set(inside, item));
  }
  return groups;
}

/**
 * Layers with a tensor of unknown name beside known ones, by path: the recurrent ones of Keras and Flax have a kernel and a bias, which
 * are not those of a linear layer. Modules of PyTorch have parameters of their own more often, and the model as a whole may have too.
 */
function strangers(dialect: Dialect, items: readonly Item[], owners: ReadonlyMap<Item, unknown>): Set<string> {
  if (dialect === "torch") return new Set();
  const strange = items.filter((item) => !owners.has(item) && !knownSlots[dialect].has(item.slot));
  return new Set(strange.map((item) => item.path.join(".")).filter((path) => path !== ""));
}

const twice = (name: string, other: string): FormatError =>
  new FormatError({
    rule: "Each tensor of a layer has one name",
    got: `${other} and ${name}, which mean the same one`,
    fix: "Name the framework that wrote the file, or rename one of them",
  });

/** Layers with a map each for query, key and value, or PyTorch's packed one. */
function attentionPaths(dialect: Dialect, byName: ReadonlyMap<string, Item>): string[] {
  const sign = dialect === "torch" ? /(^|\.)(in|q)_proj_weight$/ : /(^|\.)query\.kernel$/;
  const needed = compositeSlots.attention[dialect].filter((slot) => slot.endsWith("kernel"));
  return [...byName].flatMap(([name, { info }]) => {
    if (!sign.test(name)) return [];
    const path = name.replace(sign, "");
    const whole = needed.every((slot) => byName.get(path === "" ? slot : `${path}.${slot}`)?.info.shape.length === 3);
    return whole || (dialect === "torch" && info.shape.length === 2) ? [path] : [];
  });
}

function layersOf(dialect: Dialect, path: string, group: ReadonlyMap<string, Item>, asked: Asked | undefined): Layer[] {
  const slots = new Map([...group].map(([slot, { name, info }]) => [slot, fromFile(name, info)]));
  const names = new Map([...group].map(([slot, { name }]) => [slot, name]));
  const details = asked?.details ?? {};
  const assumed = [...group.values()].find((i) => i.assumed !== null)?.assumed ?? null;
  const readings: Reading[] = asked?.kind
    ? [readingAs(asked.kind, path, dialect, slots, details)]
    : [...readingsOf(path, dialect, slots, details)];
  if (assumed !== null && readings.length > 0) {
    // A template may say that it is the other one.
    const swapped = (slot: string): string => ({ gamma: "beta", beta: "gamma" })[slot] ?? slot;
    const others = new Map([...slots].map(([slot, value]) => [swapped(slot), value]));
    const first = readings.splice(0).map((r) => ({ ...r, why: assumed }));
    const second = readingsOf(path, dialect, others, details).map((r) => ({ ...r, why: `not ${assumed}` }));
    readings.push(...first, ...second);
    for (const [slot, name] of [...names]) if (!names.has(swapped(slot))) names.set(swapped(slot), name);
  }
  if (readings.length > 0 || (slots.size === 1 && slots.has(""))) return [{ path, names, slots, readings }];
  // Names of known kinds in shapes of none: each tensor goes its own way.
  return [...group].map(([slot, { name, info }]) => ({
    path: path === "" ? slot : `${path}.${slot}`,
    names: new Map([["", name]]),
    slots: new Map([["", fromFile(name, info)]]),
    readings: [],
  }));
}
