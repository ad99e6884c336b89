import { damaged } from "../damage.js";
import type { Hdf5Dataset, Hdf5Listing } from "./hdf5_messages.js";
import type { KerasVariable } from "./keras_file.js";
import { classOfName, partClass, variableNames } from "./layer_variables.js";
import { type LayerConfig, layersByName, layersByPath, parseConfig } from "./model_config.js";

/** The datasets of a file under the names that their tensors get. */
export interface NamedDatasets {
  readonly layout: "numbered" | "named";
  readonly config: unknown;
  readonly datasets: ReadonlyMap<string, Hdf5Dataset>;
  readonly variables: ReadonlyMap<string, KerasVariable>;
}

/** Names for what an HDF5 file lists; `config` is that of the .keras file around it, if any. */
export function nameDatasets(listing: Hdf5Listing, config: unknown, file: string): NamedDatasets {
  const attributes = new Map(listing.attributes.map(([group, name, texts]) => [`${group} ${name}`, texts]));
  const text = attributes.get("/ model_config")?.[0];
  const whole = text === undefined ? config : parseConfig(text, file, "attribute model_config");
  const root = ["/model_weights", "/"].find((group) => textsOf(attributes, group, "layer_names") !== null);
  return root === undefined
    ? numbered(listing, attributes, whole)
    : named(listing, attributes, whole, root === "/" ? "" : root, file);
}

type Attributes = ReadonlyMap<string, readonly string[]>;

/** A list of texts, which Keras cuts into several attributes ("layer_names0", "layer_names1", ...) when it is long. */
function textsOf(attributes: Attributes, group: string, name: string): readonly string[] | null {
  const whole = attributes.get(`${group} ${name}`);
  if (whole) return whole;
  const parts: string[] = [];
  for (let i = 0; ; i++) {
    const part = attributes.get(`${group} ${name}${i}`);
    if (!part) return i === 0 ? null : parts;
    parts.push(...part);
  }
}

/** Keras 1 and 2: a list of layers, each a group with a list of its weights, whose names lead on from there. */
function named(
  listing: Hdf5Listing,
  attributes: Attributes,
  config: unknown,
  root: string,
  file: string,
): NamedDatasets {
  const left = new Map(listing.datasets.map((dataset) => [dataset.path, dataset]));
  const configs = layersByName(config);
  const weights: { layer: string; weight: string; dataset: Hdf5Dataset }[] = [];
  const uses = new Map<string, number>();
  for (const layer of textsOf(attributes, root || "/", "layer_names") ?? []) {
    for (const weight of textsOf(attributes, `${root}/${layer}`, "weight_names") ?? []) {
      const path = `${root}/${layer}/${weight}`;
      const dataset = left.get(path);
      if (!dataset) {
        throw damaged(file, path, { rule: "Each weight that a layer lists must be in the file once", got: "none" });
      }
      left.delete(path);
      uses.set(weight, (uses.get(weight) ?? 0) + 1);
      weights.push({ layer, weight, dataset });
    }
  }
  const datasets = new Map<string, Hdf5Dataset>();
  const variables = new Map<string, KerasVariable>();
  for (const { layer, weight, dataset } of weights) {
    // Two layers may each have a "kernel:0".
    const name = uses.get(weight) === 1 ? weight : dataset.path.slice(root.length + 1);
    datasets.set(name, dataset);
    // A layer that is a model itself holds the weights of its own layers.
    const inner = configs.get(`${layer}/${weight.slice(0, Math.max(0, weight.lastIndexOf("/")))}`);
    const config = inner ?? configs.get(layer);
    const variable = variableOf(weight, layer);
    variables.set(name, { layer: config?.name ?? layer, class: config?.class ?? null, variable });
  }
  // The optimizer's, and those of a model that has some of its own.
  for (const [path, dataset] of left) datasets.set(datasets.has(path.slice(1)) ? path : path.slice(1), dataset);
  return { layout: "named", config, datasets, variables };
}

/** "kernel" of "conv2d_1/kernel:0", and "W" of Keras 1's "convolution2d_1_W" in the layer convolution2d_1. */
function variableOf(weight: string, layer: string): string {
  const last = weight.slice(weight.lastIndexOf("/") + 1).replace(/:\d+$/, "");
  return last.startsWith(`${layer}_`) ? last.slice(layer.length + 1) : last;
}

/** Keras 3: a group "vars" below each layer, with datasets called 0, 1, ... */
function numbered(listing: Hdf5Listing, attributes: Attributes, config: unknown): NamedDatasets {
  const layers = new Map<string, Hdf5Dataset[]>();
  for (const dataset of listing.datasets) {
    const place = dataset.path.slice(1, dataset.path.lastIndexOf("/"));
    const together = layers.get(place);
    if (together) together.push(dataset);
    else layers.set(place, [dataset]);
  }
  const container = listing.datasets.some(({ path }) => path.startsWith("/_layer_checkpoint_dependencies/"))
    ? "_layer_checkpoint_dependencies"
    : "layers";
  const configs = layersByPath(config, container);
  const order = new Map([...configs.keys()].map((path, i) => [path, i]));
  // Parts that a layer makes itself come with the layer.
  const rank = (place: string): number => {
    for (let end = place.length; end > 0; end = place.lastIndexOf("/", end - 1)) {
      const found = order.get(place.slice(0, end));
      if (found !== undefined) return found;
    }
    return order.size;
  };
  const datasets = new Map<string, Hdf5Dataset>();
  const variables = new Map<string, KerasVariable>();
  // A sort keeps the order of the file among equals.
  for (const [place, unsorted] of [...layers].sort(([a], [b]) => rank(a) - rank(b))) {
    const sorted = unsorted.sort((a, b) => numberOf(a) - numberOf(b));
    const layer = place.endsWith("/vars") && place.startsWith(`${container}/`) ? place.slice(0, -5) : null;
    const names = layer && identify(layer, sorted.length, configs, attributes.get(`/${place} name`)?.[0]);
    sorted.forEach((dataset, i) => {
      const name = dataset.path.slice(1);
      datasets.set(name, dataset);
      if (names)
        variables.set(name, { layer: names.layer, class: names.class, variable: names.variables?.[i] ?? null });
    });
  }
  return { layout: "numbered", config, datasets, variables };
}

function numberOf({ path }: Hdf5Dataset): number {
  const last = path.slice(path.lastIndexOf("/") + 1);
  return /^\d+$/.test(last) ? Number(last) : -1;
}

function identify(
  path: string,
  count: number,
  configs: ReadonlyMap<string, LayerConfig>,
  ownName: string | undefined,
): { layer: string; class: string | null; variables: string[] | null } {
  const config = configs.get(path);
  if (config)
    return { layer: config.name, class: config.class, variables: variableNames(config.class, config.options, count) };
  const parts = path.split("/");
  const last = parts.at(-1)!;
  const around = configs.get(parts.slice(0, -1).join("/"));
  const outerClass = around?.class ?? classOfName(parts.at(-2) ?? "");
  const part = outerClass === null ? null : partClass(outerClass, last);
  if (part) {
    const layer = `${around?.name ?? parts.at(-2)}/${last}`;
    return { layer, class: part, variables: variableNames(part, around?.options ?? null, count) };
  }
  const guess = configs.size > 0 ? null : classOfName(last);
  const layer = ownName ?? parts.filter((p) => p !== "layers" && p !== "_layer_checkpoint_dependencies").join("/");
  return { layer, class: guess, variables: guess === null ? null : variableNames(guess, null, count) };
}
