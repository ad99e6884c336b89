import type { NumberArray } from "../../base/dtype.js";
import { FormatError } from "../../base/errors.js";
import { checkChoice, readOptions } from "../../base/options.js";
import type { Module } from "../../nn/module.js";
import { type ElementName, elementTypes } from "../elements.js";
import type { FileTensor, TensorInfo } from "../tensor_file.js";
import { type AskedOptions, askedDefaults, readAsked } from "./asked.js";
import { detectFramework, type Framework, frameworkNames, frameworks } from "./frameworks.js";
import { type Reading, slotsFor } from "./layer_kinds.js";
import { nameOf } from "./layer_names.js";
import type { Dialect } from "./layouts.js";
import { type MatchedBy, matchLayers } from "./match_layers.js";
import { layerOptions } from "./norm_options.js";
import { type Asked, type Layer, readLayers } from "./read_layers.js";
import { ConversionReport, type ReportEntry } from "./report.js";
import { infosOf, kindsInFile, moduleKinds, type NamedTensors, type TensorSource } from "./sources.js";
import { computed, movesOf, numbersFrom, sourcesOf, typeOf, type Value } from "./value.js";

export interface ConvertOptions extends AskedOptions {
  /** Whose names the source has; told from the names where it is left out. */
  readonly from?: Framework | null;
  readonly to: Framework;
  /** A model or file of the target's framework: its names are taken, and layers are found by name, else by shapes and order. */
  readonly template?: Module | TensorSource | null;
  /** What floating-point tensors become; by default they stay what they are. */
  readonly dtype?: "float64" | "float32" | "float16" | "bfloat16" | null;
}

export interface Conversion {
  /** As `loadStateDict` takes them. */
  readonly tensors: Map<string, FileTensor>;
  readonly report: ConversionReport;
}

/** A conversion before a number is read. */
interface ConversionPlan {
  readonly values: ReadonlyMap<string, Value>;
  readonly report: ConversionReport;
}

/**
 * Gives tensors of one framework the names and layouts of another. Values stay the bits they are, except where `dtype` asks for
 * another type, and where weight or spectral normalization is folded into a weight for a framework that has no such tensors.
 * A template that is not filled is no error here: `report.missing` and `report.leftOver` tell.
 *
 * Throws OptionError for options that name what is not there, FormatError where two tensors get one name and where a layer is not
 * of the kind asked for.
 */
export async function convertTensors(source: TensorSource, options: ConvertOptions): Promise<Conversion> {
  const input = infosOf(source);
  const { values, report } = planConversion(input, options);
  const tensors = new Map<string, FileTensor>();
  for (const [name, value] of values) {
    const given = new Map<string, FileTensor>();
    for (const from of sourcesOf(value)) given.set(from, await input.read(from));
    tensors.set(name, asType(value, numbersFrom(value, given), options.dtype ?? null));
  }
  return { tensors, report };
}

function asType(value: Value, numbers: NumberArray, dtype: ElementName | null): FileTensor {
  const own = typeOf(value);
  const type = dtype !== null && elementTypes[own].dtype !== "int32" ? dtype : own;
  const held = elementTypes[type];
  // Rounded as the file will hold it, so that what is given back is what a reader of the file gets.
  const data = type === own ? numbers : held.decode(held.encode(numbers), "conversion", 0);
  return { shape: value.shape, type, data };
}

const floating = ["float64", "float32", "float16", "bfloat16"] as const;

/** Plans a conversion from names and shapes alone. */
function planConversion(source: Omit<NamedTensors, "read">, options: ConvertOptions): ConversionPlan {
  const o = readOptions("convertTensors", options, {
    ...{ from: null as Framework | null, to: "evenkeel" as Framework },
    ...{ template: null as Module | TensorSource | null, dtype: null as ConvertOptions["dtype"], ...askedDefaults },
  });
  if (o.dtype) checkChoice("convertTensors: dtype", o.dtype, floating);
  const to = checkChoice("convertTensors: to", o.to, frameworkNames);
  const from = o.from === null ? detectFramework(source.tensors, source.format) : o.from;
  checkChoice("convertTensors: from", from, frameworkNames);
  const [given, wanted] = [frameworks[from], frameworks[to]];
  const asked = readAsked(o, given);
  const template = o.template === null ? null : infosOf(o.template);
  const kinds = template === null ? new Map() : new Map([...kindsInFile(template), ...moduleKinds(o.template!)]);
  const known = new Map([...kindsInFile(source), ...asked.layers]);
  const { rename } = asked;
  const first = readLayers(given, source.tensors, new Map(), new Set(), source.variables).layers;
  const probe = template ? readLayers(wanted, template.tensors, kinds, new Set(), template.variables).layers : [];
  const both = separablePaths(asked.layers, first, probe, rename);
  const read = readLayers(given, source.tensors, known, both, source.variables);
  asked.checkNames(read.layers.map((l) => l.path));
  const dropped = [...read.aside].map(([name, why]) => entry({ outcome: "dropped", from: [name], note: why }));
  const result = new Result(given, wanted, source.tensors);
  if (!template)
    for (const layer of read.layers) result.add(layer, layer.readings[0] ?? null, rename(layer.path), null);
  else {
    const targets = readLayers(wanted, template.tensors, kinds, both, template.variables);
    const { matched, leftOver, missing, unlike } = matchLayers(read.layers, targets.layers, rename);
    for (const m of matched) {
      const details = { ...m.reading?.details, ...m.as?.details, ...flattened(m.reading) };
      const reading = m.reading && m.as ? { ...m.reading, kind: m.as.kind, details } : null;
      result.add(m.source, reading, m.target.path, { layer: m.target, by: m.by });
    }
    for (const layer of missing) result.miss(layer, unlike.get(layer.path) ?? "");
    for (const layer of leftOver) result.leave(layer, unlike.has(rename(layer.path)) ? "other shape" : "");
  }
  const entries = [...result.entries, ...dropped];
  return { values: result.values, report: new ConversionReport(from, to, entries, layerOptions(source, from, to)) };
}

/**
 * Layers that are one in Keras and two convolutions in PyTorch, by their paths on both sides: those that either side has as one, and
 * those that it is said of. Both sides read them as one.
 */
function separablePaths(
  asked: ReadonlyMap<string, Asked>,
  sources: readonly Layer[],
  targets: readonly Layer[],
  rename: (path: string) => string,
): Set<string> {
  const said = [...asked].flatMap(([path, { kind }]) => (kind === "separable" ? [path] : []));
  const whole = (layers: readonly Layer[]) =>
    layers.flatMap((l) => (l.readings[0]?.kind === "separable" ? [l.path] : []));
  const wanted = new Set(whole(targets));
  const halves = sources.flatMap((l) => (l.path.endsWith(".depthwise") ? [l.path.slice(0, -".depthwise".length)] : []));
  const given = [...said, ...whole(sources), ...halves.filter((path) => wanted.has(rename(path)))];
  return new Set([...given, ...given.map(rename), ...wanted]);
}

/** What was flattened is said of the source alone. */
const flattened = (reading: Reading | null) => (reading?.details.flatten ? { flatten: reading.details.flatten } : {});

const entry = (e: Pick<ReportEntry, "outcome"> & Partial<ReportEntry>): ReportEntry => ({
  ...{ from: [], to: null, shape: null, renamed: false, moves: [], by: null, kind: null, note: "" },
  ...e,
});

function noteOn(reading: Reading | null, doubtful: boolean, moves: boolean): string {
  if (!reading) return moves ? "of an unknown layer: as it is" : "";
  return doubtful ? `${reading.kind}: ${reading.why}` : "";
}

/** Collects the tensors of the result and what is said of each. */
class Result {
  readonly values = new Map<string, Value>();
  readonly entries: ReportEntry[] = [];

  constructor(
    private readonly given: Dialect,
    private readonly dialect: Dialect,
    private readonly tensors: ReadonlyMap<string, TensorInfo>,
  ) {}

  add(source: Layer, reading: Reading | null, path: string, target: { layer: Layer; by: MatchedBy } | null): void {
    const slots = reading ? slotsFor(path, reading, this.dialect) : source.slots;
    const by = target?.by ?? null;
    // Between frameworks of one family nothing depends on the kind.
    const doubtful = source.readings.length > 1 && this.given !== this.dialect;
    const note = noteOn(reading, doubtful, this.given !== this.dialect);
    const kind = reading?.kind ?? null;
    const used = new Set<string>();
    for (const [slot, value] of slots) {
      const to = target ? target.layer.names.get(slot) : nameOf[this.dialect](path, slot);
      if (to === undefined) continue;
      const from = sourcesOf(value);
      for (const name of from) used.add(name);
      const renamed = from.length !== 1 || from[0] !== to;
      const folded = value.origin.from === "computed" ? ["computed"] : [];
      this.put(to, value, {
        outcome: "converted",
        from,
        renamed,
        moves: [...folded, ...movesOf(value)],
        by,
        kind,
        note,
      });
    }
    const counter = "num_batches_tracked";
    const counts = target ? target.layer.names.has(counter) : this.dialect === "torch" && slots.has("running_mean");
    if (reading?.kind === "norm" && counts && !slots.has(counter)) {
      const to = target?.layer.names.get(counter) ?? nameOf[this.dialect](path, counter);
      const none = computed([], "int64", [], () => Int32Array.of(0));
      this.put(to, none, { outcome: "made", by, kind, note: "no framework but PyTorch counts batches" });
    }
    for (const name of new Set(source.names.values())) {
      if (used.has(name)) continue;
      const why = name.endsWith(counter) ? "no framework but PyTorch counts batches" : "no such tensor there";
      this.entries.push(
        entry({ outcome: "dropped", from: [name], shape: this.tensors.get(name)!.shape, kind, note: why }),
      );
    }
    for (const slot of target?.layer.slots.keys() ?? []) {
      const to = target!.layer.names.get(slot)!;
      if (!this.values.has(to)) this.entries.push(entry({ outcome: "missing", to, note: `nothing gives ${slot}` }));
    }
  }

  miss(layer: Layer, note: string): void {
    const kind = layer.readings[0]?.kind ?? null;
    for (const [slot, { shape }] of layer.slots) {
      const to = layer.names.get(slot)!;
      this.entries.push(entry({ outcome: "missing", to, shape, kind, note }));
    }
  }

  leave(layer: Layer, note: string): void {
    const kind = layer.readings[0]?.kind ?? null;
    for (const name of new Set(layer.names.values())) {
      this.entries.push(
        entry({ outcome: "left over", from: [name], shape: this.tensors.get(name)!.shape, kind, note }),
      );
    }
  }

  private put(to: string, value: Value, about: Pick<ReportEntry, "outcome"> & Partial<ReportEntry>): void {
    const other = this.entries.find((e) => e.to === to);
    if (this.values.has(to)) {
      throw new FormatError({
        rule: "Each tensor of the result has a name of its own",
        got: `${to} for ${[...(other?.from ?? []), ...sourcesOf(value)].join(" and ")}`,
        fix: "Rename one of them (rename)",
      });
    }
    this.values.set(to, value);
    this.entries.push(entry({ ...about, to, shape: value.shape }));
  }
}
