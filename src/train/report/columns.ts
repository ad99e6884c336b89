import type { NormLayerStatistics, RunRecord, Spread } from "../../base/events.js";
import { eventsOf } from "../summary.js";

/** One line of a chart; `low` and `high` bound a band around it. */
export interface Line {
  readonly name: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly low?: readonly number[];
  readonly high?: readonly number[];
}

export interface LayerCharts {
  readonly layer: string;
  readonly kind: string;
  readonly charts: readonly { readonly title: string; readonly lines: readonly Line[] }[];
}

export interface RunColumns {
  readonly name: string;
  readonly group: string;
  readonly loss: Line;
  readonly testLoss: Line;
  readonly accuracy: Line;
  readonly layers: readonly LayerCharts[];
}

/** More points than this cannot be told apart on a screen; neighbours are then averaged. */
const MOST_POINTS = 2000;

export function runColumns(record: RunRecord, group: string): RunColumns {
  const evaluations = eventsOf(record, "evaluation");
  const judged = evaluations.filter((e) => e.accuracy !== null);
  const line = (points: readonly { step: number }[], y: readonly number[]): Line => ({
    name: record.name,
    ...thin(
      points.map((p) => p.step),
      y,
    ),
  });
  const steps = eventsOf(record, "step");
  return {
    name: record.name,
    group,
    loss: line(
      steps,
      steps.map((e) => e.loss),
    ),
    testLoss: line(
      evaluations,
      evaluations.map((e) => e.loss),
    ),
    accuracy: line(
      judged,
      judged.map((e) => e.accuracy!),
    ),
    layers: layerCharts(record),
  };
}

/** Means of equal runs of neighbours, at the place of the last of them. */
function thin(x: readonly number[], y: readonly number[]): { x: number[]; y: number[] } {
  const width = Math.ceil(x.length / MOST_POINTS);
  if (width <= 1) return { x: [...x], y: y.map(short) };
  const out = { x: [] as number[], y: [] as number[] };
  for (let i = 0; i < x.length; i += width) {
    const part = y.slice(i, i + width);
    out.x.push(x[Math.min(i + width, x.length) - 1]!);
    out.y.push(short(part.reduce((a, b) => a + b, 0) / part.length));
  }
  return out;
}

/** Six digits are more than a chart shows, and a third of the page's size. */
const short = (value: number): number => Number(value.toPrecision(6));

type Quantity = Exclude<keyof NormLayerStatistics, "layer" | "kind">;

const quantities: readonly { title: string; lines: readonly { name: string; of: Quantity }[] }[] = [
  {
    title: "Mean",
    lines: [
      { name: "input", of: "inputMean" },
      { name: "running", of: "runningMean" },
    ],
  },
  {
    title: "Variance",
    lines: [
      { name: "input", of: "inputVariance" },
      { name: "running", of: "runningVariance" },
    ],
  },
  { title: "Gamma", lines: [{ name: "gamma", of: "gamma" }] },
  { title: "Beta", lines: [{ name: "beta", of: "beta" }] },
];

function layerCharts(record: RunRecord): LayerCharts[] {
  const snapshots = eventsOf(record, "normStatistics");
  const layers = new Map<string, string>();
  for (const { layers: seen } of snapshots) for (const { layer, kind } of seen) layers.set(layer, kind);
  return [...layers].map(([layer, kind]) => {
    const points = snapshots.flatMap(({ step, layers: seen }) => {
      const found = seen.find((l) => l.layer === layer);
      return found ? [{ step, found }] : [];
    });
    const every = Math.ceil(points.length / MOST_POINTS) || 1;
    const kept = points.filter((_, i) => i % every === 0 || i === points.length - 1);
    const charts = quantities.map(({ title, lines }) => ({
      title,
      lines: lines.map(({ name, of }) => spreadLine(name, kept, of)).filter((l) => l.x.length > 0),
    }));
    return { layer, kind, charts: charts.filter((c) => c.lines.length > 0) };
  });
}

function spreadLine(name: string, points: readonly { step: number; found: NormLayerStatistics }[], of: Quantity): Line {
  const there = points.flatMap(({ step, found }) => {
    const spread: Spread | null = found[of];
    return spread ? [{ step, spread }] : [];
  });
  return {
    name,
    x: there.map((p) => p.step),
    y: there.map((p) => short(p.spread.mean)),
    low: there.map((p) => short(p.spread.min)),
    high: there.map((p) => short(p.spread.max)),
  };
}
