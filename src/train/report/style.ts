/** The report's look. Colours of runs are told apart by people who see red and green alike (after Okabe & Ito). */
export const style = `
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --card: #f6f8fa; --focus: #0072b2;
  --run-0: #6b7280; --run-1: #0072b2; --run-2: #c94f00; --run-3: #00805d; --run-4: #b0478a; --run-5: #8a6d00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1318; --ink: #e8ebef; --soft: #9aa5b1; --line: #2d353f; --card: #171d24; --focus: #6cb8ee;
    --run-0: #a8b0bb; --run-1: #56b4e9; --run-2: #ff8a3d; --run-3: #2fc79a; --run-4: #e58bc4; --run-5: #e8d44d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.25rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 0.25rem; }
h2 { font-size: 1.125rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 0.25rem; overflow-wrap: anywhere; }
p { margin: 0.25rem 0; }
.note, h3 small { color: var(--soft); font-size: 0.875rem; font-weight: normal; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 0.35rem 0.75rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.875rem; }
tbody th { font-weight: 600; }
.controls { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; margin: 0.5rem 0; }
.sticky {
  position: sticky; top: 0; z-index: 2; padding: 0.5rem 0; background: var(--paper);
  border-bottom: 1px solid var(--line);
}
.legend { display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 0; padding: 0; list-style: none; }
button, select {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 0.4rem;
  padding: 0.2rem 0.6rem; min-height: 2.25rem;
}
button { cursor: pointer; display: inline-flex; gap: 0.45rem; align-items: center; }
button svg { width: 1.4rem; height: 0.6rem; }
button[aria-pressed="false"] { color: var(--soft); background: none; text-decoration: line-through; }
button[aria-pressed="false"] svg { opacity: 0.3; }
label { display: inline-flex; gap: 0.4rem; align-items: center; min-height: 2.25rem; }
input[type="checkbox"] { width: 1.1rem; height: 1.1rem; margin: 0; accent-color: var(--focus); }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.charts.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
figure { margin: 0; padding: 0.6rem 0.6rem 0.3rem; background: var(--card); border-radius: 0.5rem; min-width: 0; }
figcaption { font-weight: 600; font-size: 0.9rem; display: flex; flex-wrap: wrap; gap: 0 0.75rem; }
figcaption small { color: var(--soft); font-weight: normal; }
.plot { border-radius: 0.3rem; touch-action: pan-y; }
.readout {
  display: flex; flex-wrap: wrap; gap: 0 0.75rem; min-height: 1.4rem; font-size: 0.8rem; color: var(--soft);
  font-variant-numeric: tabular-nums;
}
.readout b { font-weight: 600; }
.u-cursor-x, .u-cursor-y { border-color: var(--soft) !important; }
.u-select { background: color-mix(in srgb, var(--ink) 12%, transparent) !important; }
[hidden] { display: none !important; }
`;
