import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { RunRecord } from "../../base/events.js";
import { formatCount, formatLoss, formatPercent, formatRate, formatSeconds } from "../numbers.js";
import { type RunSummary, summarise } from "../summary.js";
import { type Line, type RunColumns, runColumns } from "./columns.js";
import { embedJson, type ReportTable, renderTable } from "./html.js";
import { pageShell } from "./page_shell.js";

export interface ReportInput {
  readonly title: string;
  /** Lines under the title: when, on what machine, with which settings. */
  readonly notes?: readonly string[];
  readonly runs: readonly (RunRecord & { /** Runs of one group share the charts. */ readonly group?: string })[];
  /** Tables to show before the results of the runs. */
  readonly tables?: readonly ReportTable[];
  /** A chart of a share in [0, 1] against a number that doubles, such as accuracy against batch size. */
  readonly study?: {
    readonly title: string;
    readonly xTitle: string;
    readonly lines: readonly Line[];
  };
}

/** What the page's script reads. */
export interface PageData {
  readonly runs: readonly RunColumns[];
  readonly groups: readonly string[];
  readonly study: ReportInput["study"] | null;
}

/**
 * A page about training runs, whole in itself: curves, results, and the statistics of each normalization layer.
 * Everything comes from the runs' events, so any run can be shown, also one that was cut off.
 */
export function renderReport(input: ReportInput): string {
  const { title, notes = [], runs, tables = [], study = null } = input;
  const columns = runs.map((run) => runColumns(run, run.group ?? ""));
  const data: PageData = { runs: columns, groups: [...new Set(columns.map((c) => c.group))], study };
  const require = createRequire(import.meta.url);
  const asset = (path: string | URL) => readFileSync(path, "utf8");
  return pageShell({
    ...{ title, notes },
    styles: asset(require.resolve("uplot/dist/uPlot.min.css")),
    main: `${[...tables, resultsTable(runs)].map(renderTable).join("\n")}
<div id="app"><noscript><p>The charts need JavaScript.</p></noscript></div>`,
    scripts: `<script type="application/json" id="data">${embedJson(data)}</script>
<script>${asset(require.resolve("uplot/dist/uPlot.iife.min.js"))}</script>
<script type="module">${asset(new URL("./page.js", import.meta.url))}</script>
`,
  });
}

const ends: Readonly<Record<RunSummary["reason"], string>> = {
  finished: "",
  earlyStopping: "stopped early",
  stopped: "interrupted",
  failed: "failed",
  running: "no end recorded",
};

/** The table of results that both the report and the command line show. */
export function resultsTable(runs: ReportInput["runs"]): ReportTable {
  const summaries = runs.map(summarise);
  const rows = summaries.map((s, i) => [
    runs[i]!.group ? `${s.name}, ${runs[i]!.group}` : s.name,
    formatPercent(s.testAccuracy),
    formatLoss(s.testLoss),
    formatLoss(s.trainLoss),
    formatCount(s.stepsTo95),
    formatCount(s.steps),
    formatSeconds(s.seconds),
    formatRate(s.stepsPerSecond),
  ]);
  const odd = summaries.filter((s) => ends[s.reason] !== "").map((s) => `${s.name}: ${ends[s.reason]}`);
  return {
    title: "Results",
    head: ["Run", "Test accuracy", "Test loss", "Train loss", "Steps to 95 %", "Steps", "Seconds", "Steps/s"],
    rows,
    ...(odd.length > 0 ? { note: odd.join("; ") } : {}),
  };
}
