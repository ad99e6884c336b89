import { parametrizedNames } from "../../norm/tensor_names.js";
import type { KerasVariable } from "../keras/keras_file.js";
import type { TensorInfo } from "../tensor_file.js";
import type { Dialect } from "./layouts.js";

/** Where a tensor's name leads: a layer, the tensor in it (null where it is but numbered), or out of the model. */
export interface Place {
  readonly path: readonly string[];
  readonly slot: string | null;
  readonly number: number;
  /** Why it is no part of the model: an optimizer's state and the like. */
  readonly aside: string | null;
}

const inModel = (path: readonly string[], slot: string): Place => ({ path, slot, number: 0, aside: null });
const aside = (why: string): Place => ({ path: [], slot: null, number: 0, aside: why });

/** Reads a name of each dialect. */
export const placeOf: Readonly<Record<Dialect, (name: string) => Place>> = {
  torch(name) {
    for (const [short, long] of parametrizedNames) {
      if (name === long || name.endsWith(`.${long}`))
        return inModel(split(name.slice(0, -long.length), "."), short as string);
    }
    const path = name.split(".");
    return inModel(path.slice(0, -1), path.at(-1)!);
  },
  keras(name) {
    const all = split(name.replace(/:\d+$/, ""), "/");
    if (all.some((s) => notLayers.keras.has(s)))
      return aside(`${all.find((s) => notLayers.keras.has(s))}, not a layer`);
    const path = all.filter((s) => !containers.has(s)).map((s) => inAttention.get(s) ?? s);
    if (all.at(-2) === "vars" && /^\d+$/.test(all.at(-1)!)) {
      return { path: path.slice(0, -1), slot: null, number: Number(all.at(-1)), aside: null };
    }
    // HDF5 files of whole layers name the layer again in the tensor's own name.
    const again = path.lastIndexOf(path[0]!, path.length - 2);
    const once = path.slice(Math.max(0, again));
    return inModel(once.slice(0, -1), once.at(-1)!);
  },
  flax(name) {
    const all = split(name, name.includes("/") ? "/" : ".");
    if (notLayers.flax.has(all[0]!)) return aside(`${all[0]}, not a layer`);
    const path = all.slice(all.findIndex((s) => !collections.has(s)));
    if (path.length > 1 && (path.at(-1) === "value" || path.at(-1) === "raw_value")) path.pop();
    return inModel(path.slice(0, -1), path.at(-1)!);
  },
};

/** The place that a Keras file itself tells of a tensor, if it does. */
export function placeOfVariable(told: KerasVariable | undefined): Place | null {
  if (!told || told.variable === null) return null;
  const path = split(told.layer, "/").map((s) => inAttention.get(s) ?? s);
  const depthwise = told.variable === "kernel" && /^DepthwiseConv/.test(told.class ?? "");
  return inModel(path, depthwise ? "depthwise_kernel" : told.variable);
}

const split = (name: string, by: string): string[] => name.split(by).filter((s) => s !== "");

const containers = new Set(["layers", "_layer_checkpoint_dependencies", "model_weights", "vars"]);
const collections = new Set(["params", "batch_stats"]);
const notLayers: Readonly<Record<"keras" | "flax", ReadonlySet<string>>> = {
  keras: new Set([
    ...["optimizer", "optimizer_weights", "metrics", "_metrics", "compile_metrics", "_loss_tracker"],
    ...["seed_generator", "_seed_generator"],
  ]),
  flax: new Set(["opt_state", "step", "cache", "intermediates", "rngs"]),
};

/** Attributes of Keras's attention layer, and what its layers are called in names of weights. */
const inAttention: ReadonlyMap<string, string> = new Map(
  [
    ["query_dense", "query"],
    ["key_dense", "key"],
    ["value_dense", "value"],
    ["output_dense", "attention_output"],
  ].flatMap(([attribute, name]) => [
    [attribute!, name!],
    [`_${attribute}`, name!],
  ]),
);

/** Writes a name; the slot is empty where the path is all of it. Flax keeps statistics in a collection of their own. */
export const nameOf: Readonly<Record<Dialect, (path: string, slot: string) => string>> = {
  torch: (path, slot) => [path, slot].filter((s) => s !== "").join("."),
  keras: (path, slot) => [...split(path, "."), ...split(slot, ".")].join("/"),
  flax: (path, slot) =>
    [slot === "mean" || slot === "var" ? "batch_stats" : "params", ...split(path, "."), ...split(slot, ".")].join("/"),
};

/** What Keras numbers instead of naming: the tensors of a layer in their order, by the class that the path tells. */
const kerasOrders: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^separable_conv/, ["depthwise_kernel", "pointwise_kernel", "bias"]],
  [/^depthwise_conv/, ["depthwise_kernel", "bias"]],
  [/^(dense|conv|einsum_dense)/, ["kernel", "bias"]],
  [/^embedding/, ["embeddings"]],
  [/^rms_normalization/, ["scale"]],
];
const statistics = ["moving_mean", "moving_variance"];

/** The names of a layer's numbered tensors, and what was assumed where their number leaves gamma or beta alone. */
export function numberedSlots(
  path: readonly string[],
  tensors: readonly TensorInfo[],
): { slots: string[]; assumed: string | null } {
  const [layer = "", count] = [path.at(-1), tensors.length];
  const known = kerasOrders.find(([pattern]) => pattern.test(layer));
  if (known && count <= known[1].length) return { slots: known[1].slice(0, count), assumed: null };
  const batch = /^(batch|sync_batch)/.test(layer);
  if (batch || (count === 4 && tensors.every((t) => t.shape.length === 1))) {
    // scale=False is common before a ReLU, center=False is not.
    const affine = [[], [], [], ["beta"], ["gamma", "beta"]][count];
    if (affine) return { slots: [...affine, ...statistics], assumed: count === 3 ? "taken as scale=False" : null };
  }
  const rank = tensors[0]!.shape.length;
  const same = tensors.every((t) => t.shape.length === rank);
  if (/normalization/.test(layer) || (same && rank === 1)) {
    const assumed = count === 1 ? "taken as center=False" : null;
    if (count <= 2) return { slots: ["gamma", "beta"].slice(0, count), assumed };
  }
  if (rank >= 2 && count <= 2) return { slots: ["kernel", "bias"].slice(0, count), assumed: null };
  return { slots: tensors.map((_, i) => `vars/${i}`), assumed: null };
}
