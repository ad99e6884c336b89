import { FormatError } from "../../base/errors.js";
import { formatShape } from "../../base/shape.js";
import { joinedRows, rowsOf, type Value } from "./value.js";

const maps = ["query", "key", "value"] as const;
const single = { query: "q_proj_weight", key: "k_proj_weight", value: "v_proj_weight" } as const;

/** The names of torch.nn.MultiheadAttention's own tensors. */
export const attentionNames = [
  ...["in_proj_weight", "in_proj_bias", ...Object.values(single)],
  ...["out_proj.weight", "out_proj.bias"],
];

/** The four maps, without which it is no attention layer. */
export const isWhole = (roles: ReadonlyMap<string, Value>): boolean =>
  [...maps.map((m) => `${m}.weight`), "out_proj.weight"].every((role) => roles.has(role));

/** PyTorch's tensors as one linear map each for query, key and value; null where they are not those of an attention layer. */
export function unpackAttention(slots: ReadonlyMap<string, Value>): Map<string, Value> | null {
  for (const [name, { shape }] of slots) {
    if (shape.length !== (name.endsWith("bias") ? 1 : 2)) return null;
    if (name.startsWith("in_proj") && shape[0]! % 3 !== 0) return null;
  }
  const roles = new Map<string, Value>();
  const third = (v: Value, i: number) => rowsOf(v, (i * v.shape[0]!) / 3, ((i + 1) * v.shape[0]!) / 3);
  const [packed, bias] = [slots.get("in_proj_weight"), slots.get("in_proj_bias")];
  for (const [i, map] of maps.entries()) {
    const weight = packed ? third(packed, i) : slots.get(single[map]);
    if (weight) roles.set(`${map}.weight`, weight);
    if (bias) roles.set(`${map}.bias`, third(bias, i));
  }
  for (const name of ["out_proj.weight", "out_proj.bias"]) {
    const value = slots.get(name);
    if (value) roles.set(name, value);
  }
  return isWhole(roles) ? roles : null;
}

/** The way back: packed where query, key and value have the same number of features, as PyTorch does it. */
export function packAttention(path: string, roles: ReadonlyMap<string, Value>): Map<string, Value> {
  const weights = maps.map((m) => roles.get(`${m}.weight`)!);
  const biases = maps.flatMap((m) => roles.get(`${m}.bias`) ?? []);
  const features = weights[0]!.shape[1]!;
  const out = roles.get("out_proj.weight")!;
  const square = weights.every((w) => w.shape[0] === features) && out.shape.every((d) => d === features);
  if (!square || biases.length % 3 !== 0) {
    throw new FormatError({
      rule: "nn.MultiheadAttention maps E features to heads * size = E, and back to E, with biases for all or none",
      got: `${path}: query, key, value and output ${[...weights, out].map((w) => formatShape(w.shape)).join(", ")}, ${biases.length} biases`,
      fix: "Build it of nn.Linear layers, and convert its parts by other names",
    });
  }
  const slots = new Map<string, Value>();
  if (weights.every((w) => w.shape[1] === features)) slots.set("in_proj_weight", joinedRows(weights));
  else for (const [i, map] of maps.entries()) slots.set(single[map], weights[i]!);
  if (biases.length === 3) slots.set("in_proj_bias", joinedRows(biases));
  for (const name of ["out_proj.weight", "out_proj.bias"]) {
    const value = roles.get(name);
    if (value) slots.set(name, value);
  }
  return slots;
}
