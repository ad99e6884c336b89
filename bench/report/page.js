import { chart } from "./chart.js";
import { summaries } from "./table.js";

const style = `
  :root { color-scheme: light dark; --line: #d1d9e0; --soft: #59636e; --low: #bc4c00 }
  @media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #9198a1; --low: #f0883e } }
  body { font: 14px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
  th, td { padding: 2px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
  th:first-child, td:first-child { text-align: left } .low { color: var(--low); font-weight: 600 } .soft { color: var(--soft) }
  svg { max-width: 100%; height: auto }`;

const cell = (text, kind = "") => `<td${kind && ` class="${kind}"`}>${text}</td>`;
const head = (names) => `<tr>${names.map((name) => `<th>${name}</th>`).join("")}</tr>`;
const ms = (t) => `${t.ms.toPrecision(3)}${t.disturbed ? " ~" : ""}`;

function timeTable({ threads, rows, versions }) {
  const peers = Object.keys(versions).filter((name) => name !== "evenkeel");
  const lines = rows.map((row) => {
    const theirs = peers.map((name) => {
      const t = row.peers[name];
      if (!t) return cell("");
      return t.error ? cell("fails") : cell(`${ms(t)} (${t.ratio.toFixed(2)}x)`, t.ratio < 1 ? "low" : "");
    });
    const rate = row.bytesPerSecond ?? row.flopsPerSecond;
    const share = row.share ? row.share.toFixed(2) : "";
    return `<tr>${cell(row.name)}${cell(ms(row.ours))}${theirs.join("")}${cell(rate ? (rate / 1e9).toFixed(1) : "")}${cell(share)}</tr>`;
  });
  const names = ["cell", "ours, ms", ...peers.map((name) => `${name}, ms`), "GB/s or GFLOP/s", "share of copy"];
  return `<h2>${threads} thread${threads === 1 ? "" : "s"}</h2><table>${head(names)}${lines.join("\n")}</table>`;
}

function summaryTable(results) {
  const lines = summaries(results).map((s) => {
    const values = [
      `${s.kind}${s.own === "evenkeel" ? "" : " with BLAS"}, ${s.threads} thread${s.threads === 1 ? "" : "s"}`,
      s.peer,
      `${s.atLeastOne} of ${s.cells}`,
    ];
    return `<tr>${[...values, `${s.geometricMean.toFixed(2)}x`, `${s.worst.toFixed(2)}x: ${s.worstCell}`].map((v) => cell(v)).join("")}</tr>`;
  });
  return `<table>${head(["cells", "against", "at 1.0x or above", "geometric mean", "worst"])}${lines.join("\n")}</table>`;
}

/** One page, without a network: what it ran on, the summary, the chart, and every figure. */
export function page(results) {
  const notes = [...new Set(results.runs.flatMap((run) => run.notes))].map(
    (note) => `<li>${note.replaceAll("<", "&lt;")}</li>`,
  );
  const kind = results.quick ? " Quick run: rough figures." : "";
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Evenkeel bench</title><style>${style}</style>
<h1>Evenkeel beside its peers</h1>
<p class="soft">${Object.values(results.machine).join("; ")}.${kind} Medians; a ratio is the peer's time over ours; ~ marks what was disturbed
(more than 30 % between the quartiles). Share of copy: the least traffic over the rate at which this machine copied in the same run.</p>
${summaryTable(results)}
<ul>${notes.join("\n")}</ul>
${chart(results)}
${results.runs.map(timeTable).join("\n")}
</html>
`;
}
