import { FormatError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape, sameShape } from "../../base/shape.js";
import { type LayerKind, type TensorNames, tensorNames } from "../../norm/tensor_names.js";
import { attentionNames, isWhole, packAttention, unpackAttention } from "./attention.js";
import { foldedWeight, type Parametrized, partNames } from "./folded_weight.js";
import { type Details, type Dialect, layoutOf } from "./layouts.js";
import type { Value } from "./value.js";

/** A layer's tensors read as those of one kind of layer, by PyTorch's names and in PyTorch's layouts. */
export interface Reading {
  readonly kind: LayerKind;
  readonly roles: ReadonlyMap<string, Value>;
  readonly details: Details;
  readonly parametrized: Parametrized | null;
  /** Why this kind. */
  readonly why: string;
}

const rolesOf = (kind: LayerKind): [string, TensorNames][] => Object.entries(tensorNames[kind]);

/** The name of a role's tensor inside of a layer; undefined where the dialect has none. */
export function slotOf(kind: LayerKind, role: string, dialect: Dialect): string | undefined {
  if (dialect === "torch") return role;
  return (tensorNames[kind] as Readonly<Record<string, TensorNames>>)[role]?.[dialect];
}

/** Which shapes, PyTorch's, a kind's tensors may have; `clearly` is asked where nobody said which kind it is. */
interface KindRule {
  readonly ranks: readonly [number, number];
  /** Without a weight only norms are asked. */
  clearly(weight: Shape | undefined, bias: Shape | undefined, roles: ReadonlySet<string>, dialect: Dialect): boolean;
}

const noBias = (b: Shape | undefined) => b === undefined;

/** In the order in which kinds are tried; what the layer's name hints at comes first. */
const rules: Readonly<Record<LayerKind, KindRule & { readonly hint?: RegExp }>> = {
  separable: { ranks: [3, 5], clearly: () => true },
  depthwise: { ranks: [3, 5], clearly: (w, b) => w![1] === 1 && (!b || b[0] === w![0]), hint: /depthwise/i },
  conv: { ranks: [3, 5], clearly: (w, b) => !b || (b.length === 1 && b[0] === w![0]) },
  convTranspose: {
    ranks: [3, 5],
    // PyTorch alone has groups here.
    clearly: (w, b, _, dialect) =>
      !b || (b.length === 1 && (b[0] === w![1] || (dialect === "torch" && b[0]! % w![1]! === 0))),
    hint: /transpose|deconv/i,
  },
  linear: { ranks: [2, 2], clearly: (w, b) => !b || (b.length === 1 && b[0] === w![0]) },
  embedding: { ranks: [2, 2], clearly: (_, b) => noBias(b), hint: /emb|wte|wpe|token/i },
  norm: { ranks: [1, 9], clearly: (w, b, roles) => normLike(w, b, roles) },
  rmsNorm: { ranks: [1, 9], clearly: (w, b, roles) => w?.length === 1 && noBias(b) && roles.size === 1, hint: /rms/i },
  attention: { ranks: [1, 3], clearly: () => true },
};

function normLike(w: Shape | undefined, b: Shape | undefined, roles: ReadonlySet<string>): boolean {
  if (roles.has("running_mean") || roles.has("running_var")) return true;
  return w ? w.length === 1 || (b !== undefined && sameShape(w, b)) : b?.length === 1;
}

/** A weight-only norm is RMS normalization more often than a norm without its bias; a depthwise weight is any grouped one. */
const order: readonly LayerKind[] = ["linear", "embedding", "conv", "convTranspose", "depthwise", "rmsNorm", "norm"];

export const layerKinds = Object.keys(rules) as LayerKind[];

/** Which slots of a group make a composite layer, before anything else is told apart. */
export const compositeSlots: Readonly<Record<"attention" | "separable", Readonly<Record<Dialect, readonly string[]>>>> =
  {
    attention: {
      torch: attentionNames,
      keras: rolesOf("attention").map(([, n]) => n.keras!),
      flax: rolesOf("attention").map(([, n]) => n.flax!),
    },
    separable: {
      torch: rolesOf("separable").map(([role]) => role),
      keras: rolesOf("separable").map(([, n]) => n.keras!),
      flax: rolesOf("separable").map(([, n]) => n.flax!),
    },
  };

/** Slots as roles in PyTorch's layout, or null where they are not those of the kind. */
function read(
  path: string,
  kind: LayerKind,
  dialect: Dialect,
  slots: ReadonlyMap<string, Value>,
  details: Details,
): Reading | null {
  if (kind === "attention" && dialect === "torch") {
    const roles = unpackAttention(slots);
    return roles && { kind, roles, details, parametrized: null, why: "its names" };
  }
  const parametrized = dialect === "torch" ? parametrizedBy(slots) : null;
  const known = new Map(rolesOf(kind).map(([role]) => [slotOf(kind, role, dialect), role]));
  for (const name of parametrized ? partNames[parametrized] : []) known.set(name, name);
  if (![...slots.keys()].every((slot) => known.has(slot))) return null;
  let found = details;
  const entries: [string, Value][] = [];
  for (const [slot, value] of slots) {
    const role = known.get(slot)!;
    if (!rankFits(kind, role, weightOf(parametrized), value)) return null;
    if (role === "query.weight" && dialect !== "torch") found = { ...found, heads: value.shape[1]! };
    if (dialect === "keras" && slot === "depthwise_kernel") found = { ...found, multiplier: value.shape.at(-1)! };
    const layout = layoutOf(kind, role, dialect);
    entries.push([role, moved(path, kind, role, value, () => layout.toTorch(value, found))]);
  }
  const roles = new Map(entries);
  if (kind === "attention" && !isWhole(roles)) return null;
  return { kind, roles, details: found, parametrized, why: "its names" };
}

/** Moves a tensor's axes; what cannot be is an error that names the layer. */
function moved(path: string, kind: LayerKind, role: string, value: Value, move: () => Value): Value {
  try {
    return move();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new FormatError({
      rule: `The shapes of ${path} must fit what is said of it (heads, multiplier, flatten)`,
      got: `${role} ${formatShape(value.shape)} of kind ${kind}: ${error.complaint?.got ?? error.message}`,
      fix: "Correct what is said of it in kinds or flatten",
    });
  }
}

/** The tensor that has the weight's shape. */
const weightOf = (parametrized: Parametrized | null): string =>
  parametrized === null ? "weight" : parametrized === "weight norm" ? "weight_v" : "weight_orig";

function rankFits(kind: LayerKind, role: string, weight: string, { shape }: Value): boolean {
  const rank = shape.length;
  if (kind === "attention") return rank === (/^out.*bias$/.test(role) ? 1 : role.endsWith("bias") ? 2 : 3);
  if (kind === "norm" || role === "weight_g") return true;
  if (role !== weight && !role.endsWith(".weight")) return rank === 1;
  const [least, most] = rules[kind].ranks;
  return rank >= least && rank <= most;
}

function parametrizedBy(slots: ReadonlyMap<string, Value>): Parametrized | null {
  for (const [by, names] of Object.entries(partNames)) if (names.every((n) => slots.has(n))) return by as Parametrized;
  return null;
}

const shapeOfWeight = ({ roles, parametrized }: Reading): Shape | undefined => roles.get(weightOf(parametrized))?.shape;

/** All kinds of layer that these tensors can be, the likeliest first; none where they are of no kind known here. */
export function readingsOf(
  path: string,
  dialect: Dialect,
  slots: ReadonlyMap<string, Value>,
  details: Details,
): readonly Reading[] {
  for (const kind of ["attention", "separable"] as const) {
    const names = new Set(compositeSlots[kind][dialect]);
    if ([...slots.keys()].every((s) => names.has(s)) && [...slots.keys()].some((s) => compositeOnly[kind].test(s))) {
      const reading = read(path, kind, dialect, slots, details);
      return reading ? [reading] : [];
    }
  }
  const hinted = order.filter((kind) => rules[kind].hint?.test(path));
  const found = [...hinted, ...order.filter((k) => !hinted.includes(k))].flatMap((kind) => {
    const reading = read(path, kind, dialect, slots, details);
    if (!reading) return [];
    const [weight, bias] = [shapeOfWeight(reading), reading.roles.get("bias")?.shape];
    if (weight === undefined && kind !== "norm") return [];
    const clear = rules[kind].clearly(weight, bias, new Set(slots.keys()), dialect);
    return clear ? [reading] : [];
  });
  const why = hinted.includes(found[0]?.kind as LayerKind) ? "its layer's name" : "the likelier kind";
  return found.length > 1 ? found.map((r) => ({ ...r, why })) : found;
}

const compositeOnly = { attention: /proj|\./, separable: /pointwise/ } as const;

/** The tensors as those of the kind that was asked for. Throws FormatError where they cannot be. */
export function readingAs(
  kind: LayerKind,
  path: string,
  dialect: Dialect,
  slots: ReadonlyMap<string, Value>,
  details: Details,
): Reading {
  const reading = read(path, kind, dialect, slots, details);
  if (reading) return { ...reading, why: "asked for" };
  const [least, most] = rules[kind].ranks;
  const names =
    kind === "attention" && dialect === "torch"
      ? attentionNames
      : rolesOf(kind).flatMap(([role]) => slotOf(kind, role, dialect) ?? []);
  throw new FormatError({
    rule: `A layer of kind ${kind} has ${names.join(", ")}, with weights of ${least === most ? least : `${least} to ${most}`} axes`,
    got: `${path} with ${[...slots].map(([n, v]) => `${n} ${formatShape(v.shape)}`).join(", ")}`,
    fix: "Name another kind for it, or none",
  });
}

/** The reading with its parametrized weight as one plain tensor. */
export function folded(reading: Reading): Reading {
  const { parametrized, roles, kind } = reading;
  if (!parametrized) return reading;
  const weight = foldedWeight(parametrized, roles, kind === "convTranspose" ? 1 : 0);
  const others = [...roles].filter(([role]) => !partNames[parametrized].includes(role));
  return { ...reading, roles: new Map([["weight", weight], ...others]), parametrized: null };
}

/** A reading's tensors by the dialect's names inside of the layer, in its layouts; what it has no name for is left out. */
export function slotsFor(path: string, reading: Reading, dialect: Dialect): Map<string, Value> {
  if (dialect === "torch")
    return reading.kind === "attention" ? packAttention(path, reading.roles) : new Map(reading.roles);
  const { kind, roles, details } = folded(reading);
  if (kind === "attention" && details.heads === undefined) {
    throw new FormatError({
      rule: "The number of heads must be known to write an attention layer for Keras or Flax",
      got: `${path}, whose tensors do not tell it`,
      fix: `Say it: kinds: { "${path}": { heads: 8 } } (--kind ${path}=attention,heads=8)`,
    });
  }
  return new Map(
    [...roles].flatMap(([role, value]): [string, Value][] => {
      const slot = slotOf(kind, role, dialect);
      if (!slot) return [];
      const layout = layoutOf(kind, role, dialect);
      return [[slot, moved(path, kind, role, value, () => layout.fromTorch(value, details))]];
    }),
  );
}
