import { summaries } from "./table.js";

const line = (cells) => `| ${cells.join(" | ")} |`;
const table = (head, rows) =>
  [line(head), line(head.map((_, i) => (i ? "---:" : "---"))), ...rows.map(line)].join("\n");
const ms = (t) => `${t.ms.toPrecision(3)}${t.disturbed ? " ~" : ""}`;
const threadsOf = (n) => `${n} thread${n === 1 ? "" : "s"}`;

function times({ threads, rows, versions }) {
  const peers = Object.keys(versions).filter((name) => name !== "evenkeel");
  const body = rows.map((row) => {
    const theirs = peers.map((name) => {
      const t = row.peers[name];
      if (!t) return "";
      return t.error ? "fails" : `${ms(t)} (${t.ratio.toFixed(2)}x)`;
    });
    const rate = row.bytesPerSecond ?? row.flopsPerSecond;
    return [row.name, ms(row.ours), ...theirs, rate ? (rate / 1e9).toFixed(1) : "", row.share?.toFixed(2) ?? ""];
  });
  const head = ["cell", "evenkeel, ms", ...peers.map((name) => `${name}, ms`), "GB/s or GFLOP/s", "share of copy"];
  const who = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `## ${threadsOf(threads)}\n\n${who.join(", ")}.\n\n${table(head, body)}\n`;
}

/** Every figure as Markdown. */
export function markdown(results) {
  const notes = [...new Set(results.runs.flatMap((run) => run.notes))].map((note) => `- ${note}`);
  const summary = summaries(results).map((s) => [
    `${s.kind}${s.own === "evenkeel" ? "" : " with BLAS"}, ${threadsOf(s.threads)}`,
    s.peer,
    `${s.atLeastOne} of ${s.cells}`,
    `${s.geometricMean.toFixed(2)}x`,
    `${s.worst.toFixed(2)}x (${s.worstCell})`,
  ]);
  return `# One run of the bench

${Object.values(results.machine).join("; ")}. Medians; a ratio is the peer's time over Evenkeel's; ~ marks what was disturbed (more than 30 % between
the quartiles). Share of copy: the least traffic over the rate at which this machine copied in the same run.

${table(["cells", "against", "at 1.0x or above", "geometric mean", "worst"], summary)}

${notes.join("\n")}

${results.runs.map(times).join("\n")}`;
}
