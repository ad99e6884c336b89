import { Script } from "node:vm";
import { describe, expect, it } from "vitest";
import type { NormLayerStatistics, RunRecord, TrainingEvent } from "../../base/events.js";
import { summarise } from "../summary.js";
import { runColumns } from "./columns.js";
import { escapeHtml } from "./html.js";
import { type PageData, renderReport, resultsTable } from "./report.js";

const spread = (mean: number) => ({ mean, std: 0.1, min: mean - 1, max: mean + 1 });
const layer = (name: string, step: number): NormLayerStatistics => ({
  layer: name,
  kind: "batch",
  inputMean: spread(step),
  inputVariance: spread(2 * step),
  runningMean: null,
  runningVariance: null,
  gamma: spread(1),
  beta: null,
});

function record(name: string, steps = 6): RunRecord {
  const events: TrainingEvent[] = [
    { type: "runStart", name, time: "", epochs: 1, stepsPerEpoch: steps, step: 0, parameters: 1, settings: {} },
  ];
  for (let step = 1; step <= steps; step++) {
    events.push({ type: "step", step, epoch: 1, loss: 1 / step, lr: 0.1, gradNorm: null });
    if (step % 2 === 0) events.push({ type: "evaluation", step, epoch: 1, loss: 0.5, accuracy: 0.91 + 0.01 * step });
    if (step % 3 === 0) {
      events.push({ type: "normStatistics", step, epoch: 1, layers: [layer("a", step), layer("b", step)] });
    }
  }
  return { name, events };
}

/** The text of the page's element that `pattern` opens. */
const inside = (html: string, pattern: RegExp, close: string): string => {
  const start = html.search(pattern);
  const from = html.indexOf(">", start) + 1;
  return html.slice(from, html.indexOf(close, from));
};

describe("summarise", () => {
  it("finds the steps to 95 % and the last and best accuracy", () => {
    const s = summarise(record("x"));
    expect(s.stepsTo95).toBe(4);
    expect(s.testAccuracy).toBeCloseTo(0.97, 12);
    expect(s.steps).toBe(6);
    expect(s.reason).toBe("running");
    expect(summarise(record("x", 2)).stepsTo95).toBeNull();
    expect(summarise({ name: "empty", events: [] })).toMatchObject({ testAccuracy: null, steps: 0, seconds: null });
  });
});

describe("report columns", () => {
  it("averages neighbours when there are more points than a screen shows, keeping the mean", () => {
    const { loss } = runColumns(record("long", 9001), "");
    expect(loss.x.length).toBeLessThanOrEqual(2000);
    expect(loss.x.at(-1)).toBe(9001);
    expect(loss.y[0]).toBeCloseTo((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, 5);
  });

  it("leaves out charts of what a layer does not have", () => {
    const { layers } = runColumns(record("x"), "");
    expect(layers.map((l) => l.layer)).toEqual(["a", "b"]);
    expect(layers[0]!.charts.map((c) => c.title)).toEqual(["Mean", "Variance", "Gamma"]);
    expect(layers[0]!.charts[0]!.lines).toEqual([{ name: "input", x: [3, 6], y: [3, 6], low: [2, 5], high: [4, 7] }]);
  });
});

describe("report page", () => {
  const evil = `</script><img src=x onerror="alert('1')">&<!--`;

  it("escapes every text that comes from outside", () => {
    const html = renderReport({
      title: evil,
      notes: [evil],
      runs: [{ ...record(evil), group: evil }],
      tables: [{ title: evil, head: [evil], rows: [[evil, evil]], note: evil }],
    });
    expect(html).not.toContain("<img");
    expect(html).not.toContain("<!--");
    expect(html.match(/<script/g)).toHaveLength(3);
    expect(html.match(/<\/script>/g)).toHaveLength(3);
    const data = JSON.parse(inside(html, /<script type="application\/json"/, "</script>")) as PageData;
    expect(data.runs[0]!.name).toBe(evil);
    expect(data.groups).toEqual([evil]);
    expect(html).toContain(`<h1>${escapeHtml(evil)}</h1>`);
  });

  it("asks for nothing from outside, and its scripts parse", () => {
    const html = renderReport({ title: "t", runs: [record("a"), record("b")] });
    expect(html).not.toMatch(/(?:src|href)="(?!data:,)/);
    expect(html).not.toMatch(/@import|url\(|fetch\(|XMLHttpRequest/);
    const plot = inside(html, /<script>/, "</script>");
    expect(() => new Script(plot)).not.toThrow();
    expect(plot).toContain("uPlot");
    const page = inside(html, /<script type="module">/, "</script>").replace("export {};", "");
    expect(() => new Script(page)).not.toThrow();
  });

  it("shows runs that have hardly begun", () => {
    expect(() => renderReport({ title: "t", runs: [] })).not.toThrow();
    expect(() => renderReport({ title: "t", runs: [{ name: "a", events: [] }] })).not.toThrow();
    const table = resultsTable([{ name: "a", events: [] }]);
    expect(table.rows).toEqual([["a", "–", "–", "–", "–", "0", "–", "–"]]);
    expect(table.note).toBe("a: no end recorded");
  });
});
