import { geometricMean } from "../measure.js";

const nameWidth = 34;
const width = 18;

const digits = (ms) => (ms < 1 ? ms.toFixed(4) : ms < 100 ? ms.toFixed(2) : ms.toFixed(0));
const mark = ({ disturbed }) => (disturbed ? "~" : " ");
const time = (t) => `${digits(t.ms)}${mark(t)}`;

export function printHead(peers) {
  const heads = ["ours, ms", ...peers.map((name) => `${name}, ms (x)`), "GB/s | GFLOP/s", "of copy"];
  console.log("x: how many times our time; ~: disturbed, more than 30 % between the quartiles\n");
  console.log("".padEnd(nameWidth) + heads.map((h) => h.padStart(width)).join(""));
}

export function printRow(row, peers) {
  const theirs = peers.map((name) => {
    const t = row.peers[name];
    if (!t) return "-";
    return t.error ? "fails" : `${time(t)}(${t.ratio.toFixed(2)})`;
  });
  const rate = row.bytesPerSecond ?? row.flopsPerSecond;
  const values = [
    time(row.ours),
    ...theirs,
    rate ? (rate / 1e9).toFixed(1) : "",
    row.share ? row.share.toFixed(2) : "",
  ];
  console.log(row.name.padEnd(nameWidth) + values.map((v) => v.padStart(width)).join(""));
}

/** Milliseconds of a library in a row; undefined where it took no part. */
const timeOf = (row, name) => (name === "evenkeel" ? row.ours.ms : row.peers[name]?.ms);

/**
 * By thread count and kind, against each peer: cells, how many at 1.0x or above, geometric mean, and the worst. The same
 * for Evenkeel with BLAS where it took part.
 */
export function summaries({ runs }) {
  return runs.flatMap(({ threads, rows }) => {
    const kinds = [...new Set(rows.map((row) => row.kind))];
    const peers = [...new Set(rows.flatMap((row) => Object.keys(row.peers)))].filter(
      (name) => !name.startsWith("evenkeel"),
    );
    const found = [];
    for (const kind of kinds) {
      for (const own of ["evenkeel", "evenkeel+blas"]) {
        for (const peer of peers) {
          const compared = rows.filter((row) => row.kind === kind && timeOf(row, own) && timeOf(row, peer));
          if (compared.length === 0) continue;
          const ratios = compared.map((row) => timeOf(row, peer) / timeOf(row, own));
          const worst = Math.min(...ratios);
          found.push({
            ...{ threads, kind, own, peer, cells: ratios.length, atLeastOne: ratios.filter((r) => r >= 1).length },
            ...{ geometricMean: geometricMean(ratios), worst, worstCell: compared[ratios.indexOf(worst)].name },
          });
        }
      }
    }
    return found;
  });
}

export function printSummary(results) {
  console.log("");
  for (const s of summaries(results)) {
    console.log(
      `${s.threads} thread${s.threads === 1 ? " " : "s"} ${s.kind.padEnd(7)}${s.own.padEnd(13)} against ${s.peer.padEnd(10)}` +
        `${s.atLeastOne} of ${s.cells} cells at 1.0x or above, geometric mean ${s.geometricMean.toFixed(2)}x, ` +
        `worst ${s.worst.toFixed(2)}x (${s.worstCell})`,
    );
  }
  const disturbed = results.runs.flatMap(({ rows }) => rows.filter((row) => row.ours.disturbed)).length;
  if (disturbed > 0) console.log(`${disturbed} cells were disturbed; run again on a quiet machine.`);
  for (const note of new Set(results.runs.flatMap(({ notes }) => notes))) console.log(note);
}
