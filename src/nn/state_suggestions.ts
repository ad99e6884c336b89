import { FormatError } from "../base/errors.js";
import { nearestName } from "../base/options.js";
import { formatShape, type Shape, sameShape } from "../base/shape.js";
import { parametrizedNames, type TensorNames, tensorNames } from "../norm/tensor_names.js";

/** What of a state does not fit a module, by name. */
export interface Misfits {
  readonly missing: ReadonlyMap<string, Shape>;
  readonly unexpected: ReadonlyMap<string, Shape>;
  readonly misshapen: readonly { readonly name: string; readonly given: Shape; readonly wanted: Shape }[];
}

interface Suggestions {
  /** The likeliest first, at most five. */
  readonly texts: readonly string[];
  /** Whether other names or layouts are the reason, which `evenkeel convert` gives. */
  readonly convert: boolean;
}

/** The error for a state that does not fit: all of it, and what it looks like. */
export function stateMisfit(misfits: Misfits): FormatError {
  const { missing, unexpected, misshapen } = misfits;
  const { texts, convert } = suggestionsFor(misfits);
  const shapes = misshapen.map((m) => `${m.name} ${formatShape(m.given)} for ${formatShape(m.wanted)}`);
  const complaints = [
    ...(missing.size > 0 ? [`missing: ${[...missing.keys()].join(", ")}`] : []),
    ...(unexpected.size > 0 ? [`unexpected: ${[...unexpected.keys()].join(", ")}`] : []),
    ...(shapes.length > 0 ? [`other shape: ${shapes.join(", ")}`] : []),
  ];
  const remedy = convert
    ? "Rename and transpose with: evenkeel convert <in> <out>, or convertTensors of evenkeel/io"
    : "Build the model with the options it was saved with, or pass { strict: false } to load what fits by name";
  const seen = texts.length > 0 ? `It seems that ${texts.join("; ")}. ` : "";
  return new FormatError({
    rule: "A state must have the module's names and shapes",
    got: complaints.join("; "),
    fix: seen + remedy,
  });
}

const MOST = 5;
/** Of one kind; the others are counted. */
const MOST_ALIKE = 3;

/** Why names and shapes may not fit, and what they look like. */
function suggestionsFor(misfits: Misfits): Suggestions {
  const foreign = [...foreignNames(misfits), ...otherLayouts(misfits)];
  const explained = new Set(foreign.flatMap((s) => s.names));
  const plain = [...prefixes(misfits), ...parametrized(misfits)];
  for (const s of plain) for (const name of s.names) explained.add(name);
  const near = nearNames(misfits, explained);
  const texts = [...plain.map((s) => s.text), ...few(foreign), ...few(near), ...counters(misfits)];
  return { texts: texts.slice(0, MOST), convert: foreign.length > 0 };
}

interface Suggestion {
  readonly text: string;
  readonly names: readonly string[];
}

function few(all: readonly Suggestion[]): string[] {
  const texts = all.slice(0, MOST_ALIKE).map((s) => s.text);
  return all.length <= MOST_ALIKE ? texts : [...texts, `and ${all.length - MOST_ALIKE} more like these`];
}

const writers: ReadonlyMap<string, string> = new Map([
  ["module.", " (DataParallel's)"],
  ["_orig_mod.", " (torch.compile's)"],
  ["state_dict.", " (a checkpoint around the state)"],
]);

/** What all names of one side begin with, and those of the other do not. */
function prefixes({ missing, unexpected }: Misfits): Suggestion[] {
  const found = (longer: ReadonlyMap<string, Shape>, shorter: ReadonlyMap<string, Shape>) => {
    const counts = new Map<string, number>();
    for (const [name, shape] of longer) {
      for (let at = name.indexOf("."); at > 0; at = name.indexOf(".", at + 1)) {
        const other = shorter.get(name.slice(at + 1));
        if (!other || !sameShape(other, shape)) continue;
        const prefix = name.slice(0, at + 1);
        counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
        break;
      }
    }
    const [prefix, count] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
    return count > 0 && 2 * count >= Math.min(longer.size, shorter.size) ? { prefix, count } : null;
  };
  const given = found(unexpected, missing);
  if (given) {
    const names = [...unexpected.keys()].filter((n) => n.startsWith(given.prefix));
    const whose = writers.get(given.prefix) ?? "";
    return [{ text: `without "${given.prefix}"${whose} before them, ${given.count} names of the state fit`, names }];
  }
  const wanted = found(missing, unexpected);
  if (!wanted) return [];
  const names = [...unexpected.keys()].filter((n) => missing.has(wanted.prefix + n));
  return [{ text: `with "${wanted.prefix}" before them, ${wanted.count} names of the state fit`, names }];
}

/** Weight and spectral normalization, on one side alone or written in two ways. */
function parametrized({ missing, unexpected }: Misfits): Suggestion[] {
  const all: Suggestion[] = [];
  for (const name of unexpected.keys()) {
    for (const [short, long] of parametrizedNames) {
      const layer = name.endsWith(`.${long}`) ? name.slice(0, -long.length) : null;
      if (layer === null || !missing.has(layer + short)) continue;
      all.push({ text: `${name} is ${layer}${short} here`, names: [name] });
    }
    const made = /^(.*?)weight_(g|orig)$/.exec(name);
    if (made && missing.has(`${made[1]}weight`)) {
      const by = made[2] === "g" ? "weightNorm" : "spectralNorm";
      const names = ["g", "v", "u", "orig"].map((end) => `${made[1]}weight_${end}`);
      all.push({ text: `the state has ${name}: call nn.${by} on that layer before loading`, names });
    }
  }
  for (const name of missing.keys()) {
    const made = /^(.*?)weight_(g|orig)$/.exec(name);
    if (!made || !unexpected.has(`${made[1]}weight`)) continue;
    const by = made[2] === "g" ? "nn.weightNorm" : "nn.spectralNorm";
    all.push({ text: `the state has a plain ${made[1]}weight: load it before ${by}`, names: [`${made[1]}weight`] });
  }
  return all;
}

const owners = { keras: "Keras's", flax: "Flax's" } as const;

/** Other frameworks' names of tensors, each with ours and whose it is. */
const foreign: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>> = (() => {
  const table = new Map<string, Map<string, string[]>>();
  for (const roles of Object.values(tensorNames)) {
    for (const [role, names] of Object.entries(roles) as [string, TensorNames][]) {
      for (const framework of ["keras", "flax"] as const) {
        const name = names[framework];
        if (name === undefined || name === role || name.includes(".") || role.includes(".")) continue;
        const ours = table.get(name) ?? new Map<string, string[]>();
        ours.set(role, [...new Set([...(ours.get(role) ?? []), owners[framework]])]);
        table.set(name, ours);
      }
    }
  }
  return table;
})();

function foreignNames({ missing, unexpected }: Misfits): Suggestion[] {
  return [...unexpected].flatMap(([name, shape]) => {
    const dotted = name
      .replace(/:\d+$/, "")
      .replace(/^(params|batch_stats)\//, "")
      .replaceAll("/", ".");
    const at = dotted.lastIndexOf(".") + 1;
    const candidates = [...(foreign.get(dotted.slice(at)) ?? new Map([[dotted.slice(at), []]]))];
    for (const [role, whose] of candidates) {
      const ours = dotted.slice(0, at) + role;
      const wanted = missing.get(ours);
      if (!wanted || ours === name) continue;
      const layout = sameShape(shape, wanted) ? "" : ` in another layout`;
      const of = whose.length > 0 ? `${whose.join(" and ")} name` : "Keras's or Flax's way of writing";
      return [{ text: `${name} looks like ${ours} (${of}${layout})`, names: [name, ours] }];
    }
    return [];
  });
}

/** Shapes of a linear layer's transpose and of a kernel with its channels last. */
function otherLayouts({ misshapen }: Misfits): Suggestion[] {
  return misshapen.flatMap(({ name, given, wanted }) => {
    const rank = wanted.length;
    if (rank < 2 || given.length !== rank) return [];
    const [kernel, channels] = [given.slice(0, rank - 2), given.slice(rank - 2)];
    const fits = sameShape([...channels].reverse().concat(kernel), wanted);
    if (!fits) return [];
    const what = rank === 2 ? "its transpose" : `[${rank === 4 ? "H, W" : "...kernel"}, in, out]`;
    return [{ text: `${name} has the shape of ${what}, as Keras, Flax and TensorFlow.js store it`, names: [name] }];
  });
}

/** Mistyped or slightly different names, of one shape. */
function nearNames({ missing, unexpected }: Misfits, explained: ReadonlySet<string>): Suggestion[] {
  // Distances of all pairs are slow for models with thousands of tensors, which are not mistyped.
  if (missing.size * unexpected.size > 10_000) return [];
  const free = new Set([...missing.keys()].filter((name) => !explained.has(name)));
  return [...unexpected].flatMap(([name, shape]) => {
    if (explained.has(name)) return [];
    const alike = [...free].filter((m) => sameShape(missing.get(m)!, shape));
    const near = nearestName(name, alike);
    if (near === undefined) return [];
    free.delete(near);
    return [{ text: `${name} ${formatShape(shape)} is near ${near}`, names: [name] }];
  });
}

function counters({ missing, unexpected, misshapen }: Misfits): string[] {
  const only = [...missing.keys()].every((name) => name.endsWith("num_batches_tracked"));
  if (!only || missing.size === 0 || unexpected.size > 0 || misshapen.length > 0) return [];
  return ["only counters of batches are missing, which PyTorch alone keeps: { strict: false } leaves them as they are"];
}
