import type { Profile, ProfileEntry } from "../../autograd/index.js";
import { escapeHtml, type ReportTable, renderTable } from "./html.js";
import { pageShell } from "./page_shell.js";

/** A profile of several equal steps. */
export interface StepProfile {
  readonly name: string;
  readonly steps: number;
  readonly profile: Profile;
}

export interface ProfilePage {
  readonly title: string;
  readonly notes?: readonly string[];
  readonly profiles: readonly StepProfile[];
}

/** A page with a flame chart and a table for each profile, whole in itself and without scripts. */
export function renderProfilePage({ title, notes = [], profiles }: ProfilePage): string {
  const main = profiles.map((p) => `${flameChart(p)}\n${renderTable(profileTable(p))}`).join("\n");
  return pageShell({ title, notes, styles: flameStyle, main });
}

const OUTSIDE = "outside of ops";
const phases = ["forward", "backward", "update"] as const;

/** Rows by time, for a step: what the ops do not account for stands last. */
export function profileTable({ name, steps, profile: { milliseconds, peakBytes, entries } }: StepProfile): ReportTable {
  const known = entries.reduce((sum, e) => sum + e.milliseconds, 0);
  const share = (ms: number) => `${((100 * ms) / milliseconds).toFixed(1)} %`;
  const rows = entries.map((e) => [
    `${e.op}, ${e.phase}`,
    (e.calls / steps).toFixed(e.calls % steps === 0 ? 0 : 1),
    (e.milliseconds / steps).toFixed(3),
    share(e.milliseconds),
    (e.bytes / steps / 2 ** 20).toFixed(2),
    e.milliseconds > 0 ? (e.bytes / e.milliseconds / 1e6).toFixed(1) : "–",
  ]);
  rows.push([OUTSIDE, "–", ((milliseconds - known) / steps).toFixed(3), share(milliseconds - known), "–", "–"]);
  return {
    title: `${name}: ${(milliseconds / steps).toFixed(2)} ms a step`,
    head: ["Op", "Calls", "ms", "Share", "MiB", "GB/s"],
    rows,
    note: `MiB: what goes in and out of an op, counted once. At most ${(peakBytes / 2 ** 20).toFixed(1)} MiB of tensors were alive at one time.`,
  };
}

interface Bar {
  readonly label: string;
  readonly phase: string;
  readonly milliseconds: number;
  readonly inside: readonly Bar[];
}

const barOf = ({ op, phase, milliseconds, inside }: ProfileEntry): Bar => ({
  ...{ label: op, phase, milliseconds },
  // Colour follows the phase of the outermost op: what a gradient is made of belongs to backward.
  inside: inside.map((e) => barOf({ ...e, phase })),
});

function barsOf({ milliseconds, entries }: Profile): Bar {
  const groups = phases.map((phase): Bar => {
    const inside = entries.filter((e) => e.phase === phase).map(barOf);
    return { label: phase, phase, milliseconds: inside.reduce((sum, b) => sum + b.milliseconds, 0), inside };
  });
  return { label: "step", phase: "step", milliseconds, inside: groups.filter((g) => g.milliseconds > 0) };
}

/** Bars narrower than this share of the chart cannot be seen; the table has their figures. */
const NARROWEST = 0.001;
const NARROWEST_LABEL = 0.025;

/** Each row divides the bars above it: the step, its phases, their ops, and what these call. */
export function flameChart({ name, steps, profile }: StepProfile): string {
  const whole = barsOf(profile);
  const bars: string[] = [];
  let depth = 0;
  const draw = (bar: Bar, from: number, row: number): void => {
    const width = bar.milliseconds / whole.milliseconds;
    if (width < NARROWEST) return;
    depth = Math.max(depth, row + 1);
    const text = `${bar.label} ${(bar.milliseconds / steps).toFixed(2)} ms`;
    const place = `left:${(100 * from).toFixed(3)}%;width:${(100 * width).toFixed(3)}%;top:${row * ROW_HEIGHT}rem`;
    // A label of which one letter could be read is left to the hint.
    const label = width < NARROWEST_LABEL ? "" : `<span>${escapeHtml(text)}</span>`;
    const hint = `${text}, ${(100 * width).toFixed(1)} % of the step`;
    bars.push(`<div class="bar ${bar.phase}" style="${place}" title="${escapeHtml(hint)}">${label}</div>`);
    let at = from;
    for (const part of bar.inside) {
      draw(part, at, row + 1);
      at += part.milliseconds / whole.milliseconds;
    }
  };
  draw(whole, 0, 0);
  const label = `Where the time of a ${name} step goes`;
  return `<section>
<h2>${escapeHtml(label)}</h2>
<div class="flame" role="img" aria-label="${escapeHtml(`${label}; the table below has the figures`)}" style="height:${depth * ROW_HEIGHT}rem">
${bars.join("\n")}
</div>
<p class="legend flame-legend">${phases.map((p) => `<span><i class="bar ${p}"></i>${p}</span>`).join(" ")}</p>
</section>`;
}

const ROW_HEIGHT = 1.75;

/** Text on the bars is dark in both schemes: all fills are light enough for it. */
const flameStyle = `
.flame { position: relative; margin: 0.75rem 0 0.5rem; min-width: 0; overflow: hidden; }
.flame .bar {
  position: absolute; height: 1.65rem; overflow: hidden; border-radius: 0.2rem; white-space: nowrap;
  border-right: 1px solid var(--paper); color: #10151b;
}
.flame .bar span { padding: 0 0.35rem; font-size: 0.8rem; line-height: 1.65rem; font-variant-numeric: tabular-nums; }
.bar.step { background: #b4bcc6; }
.bar.forward { background: #7cc3ee; }
.bar.backward { background: #f2a36b; }
.bar.update { background: #63cfa6; }
.flame-legend { display: flex; gap: 1rem; font-size: 0.875rem; }
.flame-legend i { display: inline-block; width: 0.9rem; height: 0.9rem; border-radius: 0.2rem; margin-right: 0.35rem; }
.flame-legend span { display: inline-flex; align-items: center; }
`;
