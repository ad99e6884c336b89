import { formatShape, sameShape } from "../../base/shape.js";
import type { LayerKind } from "../../norm/tensor_names.js";
import { folded, type Reading } from "./layer_kinds.js";
import type { Layer } from "./read_layers.js";

export type MatchedBy = "name" | "shape" | "order";

/** A layer of the source and what it becomes. */
export interface Match {
  readonly source: Layer;
  readonly target: Layer;
  /** The kinds that fit each other; null for a tensor alone. */
  readonly reading: Reading | null;
  readonly as: Reading | null;
  readonly by: MatchedBy;
}

export interface Matches {
  readonly matched: readonly Match[];
  readonly leftOver: readonly Layer[];
  readonly missing: readonly Layer[];
  /** Why layers of one name were not matched, by that name. */
  readonly unlike: ReadonlyMap<string, string>;
}

/**
 * Finds the layer of the template for each of the source: first by name, then, among what is left, by kind and shapes. Where
 * several have the same kind and shapes they are matched in order, if there are as many on both sides; otherwise not at all.
 */
export function matchLayers(
  sources: readonly Layer[],
  targets: readonly Layer[],
  rename: (path: string) => string,
): Matches {
  const matched: Match[] = [];
  const unlike = new Map<string, string>();
  const byPath = new Map(targets.map((t) => [t.path, t]));
  const taken = new Set<Layer>();
  const left: Layer[] = [];
  for (const source of sources) {
    const target = byPath.get(rename(source.path));
    const fit = target && fitting(source, target);
    if (target && !fit) unlike.set(target.path, `${described(source)} for ${described(target)}`);
    if (target) taken.add(target);
    if (target && fit) matched.push({ source, target, ...fit, by: "name" });
    else if (!target) left.push(source);
  }
  const others = matchByShape(
    left,
    targets.filter((t) => !taken.has(t)),
  );
  matched.push(...others);
  const done = new Set(matched.flatMap((m) => [m.source, m.target]));
  return {
    matched,
    leftOver: sources.filter((s) => !done.has(s)),
    missing: targets.filter((t) => !done.has(t)),
    unlike,
  };
}

function matchByShape(sources: readonly Layer[], targets: readonly Layer[]): Match[] {
  const matched: Match[] = [];
  const most = Math.max(1, ...sources.map((s) => s.readings.length));
  for (let i = 0; i < most; i++) {
    const done = new Set(matched.flatMap((m) => [m.source, m.target]));
    const bySign = new Map<string, Layer[]>();
    for (const s of sources) {
      if (done.has(s) || (s.readings.length > 0 && !s.readings[i])) continue;
      const sign = s.readings[i] ? signOf(s.readings[i]!) : aloneSign(s);
      bySign.set(sign, [...(bySign.get(sign) ?? []), s]);
    }
    const wanted = new Map<string, Layer[]>();
    for (const t of targets) {
      if (done.has(t)) continue;
      const signs = t.readings.length > 0 ? t.readings.map(signOf) : [aloneSign(t)];
      const sign = signs.find((s) => bySign.has(s));
      if (sign !== undefined) wanted.set(sign, [...(wanted.get(sign) ?? []), t]);
    }
    for (const [sign, ts] of wanted) {
      const ss = inOrder(bySign.get(sign)!);
      if (ss.length !== ts.length) continue;
      for (const [k, target] of inOrder(ts).entries()) {
        const fit = fitting(ss[k]!, target);
        if (fit) matched.push({ source: ss[k]!, target, ...fit, by: ts.length === 1 ? "shape" : "order" });
      }
    }
  }
  return matched;
}

/** Which reading of each makes the same layer of both; null where none does. */
function fitting(source: Layer, target: Layer): { reading: Reading | null; as: Reading | null } | null {
  if (source.readings.length === 0 || target.readings.length === 0) {
    const [a, b] = [source.slots.get(""), target.slots.get("")];
    return a && b && sameShape(a.shape, b.shape) ? { reading: null, as: null } : null;
  }
  for (const as of target.readings) {
    for (const reading of source.readings) {
      // A plain layer can take what weight or spectral normalization computes.
      const given = as.parametrized === null ? folded(reading) : reading;
      if (signOf(given) === signOf(as)) return { reading: given, as };
    }
  }
  return null;
}

/** What says it all: kind, and PyTorch's names and shapes. Counters of batches are made or left out as needed. */
function signOf({ kind, roles }: Reading): string {
  const listed = [...roles].filter(([role]) => role !== "num_batches_tracked");
  const shapes = listed.map(([role, v]) => `${role}${formatShape(v.shape)}`).sort();
  return `${alike[kind] ?? kind} ${shapes.join(" ")}`;
}

/** Kinds that are one in PyTorch: which of them it is only Keras's names tell. */
const alike: Readonly<Partial<Record<LayerKind, LayerKind>>> = { rmsNorm: "norm", depthwise: "conv" };

const aloneSign = ({ slots }: Layer): string => `alone ${formatShape(slots.get("")!.shape)}`;

const described = ({ readings, slots }: Layer): string => {
  const roles = readings[0]?.roles ?? slots;
  return [...roles].map(([role, v]) => `${role} ${formatShape(v.shape)}`.trim()).join(", ");
};

/** The file's order; but layers that differ in a number alone are in the order of that number ("conv2d_10" after "conv2d_9"). */
function inOrder(layers: readonly Layer[]): readonly Layer[] {
  const stem = (path: string) => path.replace(/_?\d+/g, "#").replace(/#$/, "");
  if (new Set(layers.map((l) => stem(l.path))).size > 1) return layers;
  const numbers = (path: string) => [...path.matchAll(/\d+/g)].map(Number);
  return [...layers].sort((a, b) => {
    const [x, y] = [numbers(a.path), numbers(b.path)];
    for (let i = 0; i < Math.max(x.length, y.length); i++) if (x[i] !== y[i]) return (x[i] ?? -1) - (y[i] ?? -1);
    return 0;
  });
}
