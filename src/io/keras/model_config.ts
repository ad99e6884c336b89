import { damaged } from "../damage.js";
import { toSnakeCase } from "./layer_variables.js";

/** A layer as a model's configuration describes it. */
export interface LayerConfig {
  /** Its name; behind those of the models or layers around it, with a "/" between. */
  readonly name: string;
  readonly class: string;
  readonly options: object;
}

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Models within models: nobody builds so deep, and a file must not fill the stack. */
const DEEPEST = 64;

/** Names and paths that are longer are left out: those of models within models grow with each, and a file is only so large. */
const LONGEST = 1024;

/** Parses a configuration. Throws FormatError for text that is no JSON. */
export function parseConfig(text: string, file: string, at: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const got = (error as Error).message;
    throw damaged(file, at, { rule: "A model's configuration is JSON", got, fix: "The file is damaged" }, error);
  }
}

/**
 * Layers by name, in the order of the model, as Keras 1 and 2 and TensorFlow.js name weights; behind the name of the model around
 * them, with a "/" between, those of models within it. Keras 1 has no fields around the list.
 */
export function layersByName(config: unknown): Map<string, LayerConfig> {
  const found = new Map<string, LayerConfig>();
  const addAll = (model: unknown, outer: string, depth: number): void => {
    for (const layer of layersOf(model)) {
      const own = nameOf(layer);
      if (own === null) continue;
      const name = outer + own;
      if (name.length > LONGEST) continue;
      found.set(name, { name, class: String(layer.class_name), options: optionsOf(layer) });
      if (depth < DEEPEST) addAll(layer, `${name}/`, depth + 1);
    }
  };
  addAll(config, "", 0);
  return found;
}

/**
 * Layers by the path that Keras 3 saves them under, in the order of the model: classes are counted among the layers of one model
 * ("layers/conv2d", "layers/conv2d_1"), models within it begin again below it, and wrapped layers lie under their property.
 */
export function layersByPath(config: unknown, container: string): Map<string, LayerConfig> {
  const found = new Map<string, LayerConfig>();
  const add = (layer: Fields, path: string, outer: string, depth: number): void => {
    const options = optionsOf(layer);
    const name = outer + (nameOf(layer) ?? path.slice(path.lastIndexOf("/") + 1));
    if (name.length > LONGEST || path.length > LONGEST) return;
    found.set(path, { name, class: String(layer.class_name), options });
    if (depth === DEEPEST) return;
    const within = options as Fields;
    const inside = (property: string, value: unknown): void => {
      if (isFields(value) && typeof value.class_name === "string")
        add(value, `${path}/${property}`, `${name}/`, depth + 1);
    };
    if (Array.isArray(within.layers)) addAll(layer, `${path}/${container}/`, `${name}/`, depth + 1);
    if (layer.class_name === "Bidirectional") {
      inside("forward_layer", within.layer);
      inside("backward_layer", within.backward_layer ?? within.layer);
    } else inside("layer", within.layer);
    inside("cell", within.cell);
  };
  const addAll = (model: unknown, under: string, outer: string, depth: number): void => {
    const counts = new Map<string, number>();
    for (const layer of layersOf(model)) {
      const kind = toSnakeCase(String(layer.class_name));
      const number = counts.get(kind) ?? 0;
      counts.set(kind, number + 1);
      add(layer, `${under}${kind}${number === 0 ? "" : `_${number}`}`, outer, depth);
    }
  };
  addAll(config, `${container}/`, "", 0);
  return found;
}

function layersOf(model: unknown): Fields[] {
  const inside = isFields(model) ? model.config : null;
  const layers = isFields(inside) ? inside.layers : inside;
  return Array.isArray(layers) ? layers.filter((layer) => isFields(layer) && typeof layer.class_name === "string") : [];
}

const optionsOf = (layer: Fields): Fields => (isFields(layer.config) ? layer.config : {});

function nameOf(layer: Fields): string | null {
  const name = optionsOf(layer).name ?? layer.name;
  return typeof name === "string" ? name : null;
}
