import { formatShape, type Shape } from "../../base/shape.js";

/**
 * What became of a tensor. converted: it is in the result. made: the target's framework has it and the source's does not (a counter
 * of batches). missing: the template wants it and nothing gives it. left over: nothing in the template takes it. dropped: the
 * target's framework has no such tensor, or it is no part of the model.
 */
export type Outcome = "converted" | "made" | "missing" | "left over" | "dropped";

export interface ReportEntry {
  readonly outcome: Outcome;
  /** Names in the source; several where they are packed into one tensor. */
  readonly from: readonly string[];
  /** The name in the result; null where there is none. */
  readonly to: string | null;
  readonly shape: Shape | null;
  readonly renamed: boolean;
  /** What was done to the order of its numbers: "axes 3 2 0 1"; empty where nothing was. */
  readonly moves: readonly string[];
  /** How its layer in the template was found; null without one. */
  readonly by: "name" | "shape" | "order" | null;
  /** Kind of layer; null for a tensor of no known kind, which is passed on as it is. */
  readonly kind: string | null;
  /** What had to be decided, and why something is missing or left. */
  readonly note: string;
}

/** How to build a layer that the converted tensors belong to, where the file says it. */
export interface LayerOptions {
  readonly layer: string;
  readonly kind: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** What a conversion did with every tensor. */
export class ConversionReport {
  constructor(
    readonly from: string,
    readonly to: string,
    readonly entries: readonly ReportEntry[],
    readonly layers: readonly LayerOptions[] = [],
  ) {}

  of(outcome: Outcome): ReportEntry[] {
    return this.entries.filter((e) => e.outcome === outcome);
  }

  /** Tensors of layers of no known kind, passed on in their layout, which may not be that of the other framework. */
  get unknown(): string[] {
    return this.of("converted").flatMap((e) => (e.kind === null && e.note !== "" ? e.from : []));
  }

  /** Names that the template wants and nothing gives. */
  get missing(): string[] {
    return this.of("missing").map((e) => e.to!);
  }

  /** Names in the source that nothing in the template takes. */
  get leftOver(): string[] {
    return this.of("left over").flatMap((e) => e.from);
  }

  get counts(): Readonly<Record<Outcome | "renamed" | "moved", number>> {
    const count = (outcome: Outcome) => this.of(outcome).length;
    return {
      converted: count("converted"),
      renamed: this.entries.filter((e) => e.renamed).length,
      moved: this.entries.filter((e) => e.moves.length > 0).length,
      ...{ made: count("made"), dropped: count("dropped"), missing: count("missing") },
      "left over": count("left over"),
    };
  }

  /** For a table: a row for each tensor. */
  rows(): string[][] {
    return this.entries.map((e) => [
      e.from.join(", ") || "-",
      e.to ?? "-",
      e.shape === null ? "" : formatShape(e.shape),
      outcomeText(e),
      [...e.moves, e.note].filter((s) => s !== "").join("; "),
    ]);
  }

  summary(): string {
    const c = this.counts;
    const some = (["made", "dropped", "missing", "left over"] as const).filter((k) => c[k] > 0);
    const what = [
      `${c.converted} converted (${c.renamed} renamed, ${c.moved} moved)`,
      ...(this.unknown.length > 0 ? [`${this.unknown.length} of unknown layers, as they are`] : []),
      ...some.map((k) => `${c[k]} ${k}`),
    ];
    return `${this.from} to ${this.to}: ${what.join(", ")}`;
  }
}

function outcomeText({ outcome, renamed, by }: ReportEntry): string {
  const how = by === null || by === "name" ? "" : ` by ${by}`;
  return outcome === "converted" ? `${renamed ? "renamed" : "matched"}${how}` : outcome;
}
