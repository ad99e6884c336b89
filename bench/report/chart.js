import { mainPeer } from "./rows.js";

const line = 16;
const left = 230;
const plot = 520;
const gap = 56;
const top = 70;

const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 14px } .soft { fill: #59636e }
  .rule { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-dasharray: 4 3 } .back { fill: #ffffff }
  .forward { fill: #0969da } .backward { fill: #bc4c00 } .eval { fill: #1a7f37 } .train { fill: #8250df }
  .disturbed { fill-opacity: 0.35 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .soft { fill: #9198a1 } .rule { stroke: #3d444d } .one { stroke: #9198a1 } .back { fill: #0d1117 }
    .forward { fill: #58a6ff } .backward { fill: #f0883e } .eval { fill: #3fb950 } .train { fill: #bc8cff }
  }`;

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A shape for each mode, so that colour is not needed to tell them apart. */
const marks = {
  forward: (x, y) => `<circle cx="${x}" cy="${y}" r="4.5"`,
  backward: (x, y) => `<rect x="${x - 4}" y="${y - 4}" width="8" height="8"`,
  eval: (x, y) => `<path d="M${x - 5} ${y + 4}h10l-5 -9z"`,
  train: (x, y) => `<path d="M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"`,
};

/** Ratios that a logarithmic axis shows, from a power of two below the least to one above the largest. */
function axis(ratios) {
  const low = Math.floor(Math.log2(Math.min(1, ...ratios)));
  const high = Math.ceil(Math.log2(Math.max(2, ...ratios)));
  const at = (ratio) => +(left + (plot * (Math.log2(ratio) - low)) / (high - low)).toFixed(1);
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 2 ** (low + i));
  return { at, ticks };
}

function panel({ threads, rows }, y0) {
  const shown = rows.filter((row) => mainPeer(row.peers)?.ratio);
  if (shown.length === 0) return { svg: "", height: 0 };
  const groups = new Map();
  for (const row of shown) {
    const name = row.name.slice(0, -row.mode.length - 1);
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  const { at, ticks } = axis(shown.map((row) => mainPeer(row.peers).ratio));
  const height = top + groups.size * line + 8;
  const parts = [
    `<text class="title" x="12" y="${y0 + 22}">torch's time / Evenkeel's, ${threads} thread${threads === 1 ? "" : "s"}</text>`,
  ];
  const modes = [...new Set(shown.map((row) => row.mode))];
  modes.forEach((mode, i) => {
    const x = left + 6 + i * 96;
    parts.push(`${marks[mode](x, y0 + 40)} class="${mode}"/><text x="${x + 10}" y="${y0 + 44}">${mode}</text>`);
  });
  for (const tick of ticks) {
    const kind = tick === 1 ? "one" : "rule";
    parts.push(
      `<line class="${kind}" x1="${at(tick)}" x2="${at(tick)}" y1="${y0 + top - 6}" y2="${y0 + height - 4}"/>`,
      `<text class="soft" x="${at(tick)}" y="${y0 + top - 10}" text-anchor="middle">${tick < 1 ? `1/${1 / tick}` : tick}x</text>`,
    );
  }
  [...groups].forEach(([name, cells], i) => {
    const y = y0 + top + 4 + i * line;
    parts.push(`<text x="${left - 12}" y="${y + 4}" text-anchor="end">${escaped(name)}</text>`);
    for (const row of cells) {
      const { ratio } = mainPeer(row.peers);
      const label = `${row.name}: ${ratio.toFixed(2)}x (${row.ours.ms.toPrecision(3)} ms)`;
      const kind = row.ours.disturbed ? `${row.mode} disturbed` : row.mode;
      parts.push(
        `${marks[row.mode](at(ratio), y)} class="${kind}"><title>${escaped(label)}</title></${tag(row.mode)}>`,
      );
    }
  });
  return { svg: parts.join("\n"), height };
}

const tag = (mode) => ({ forward: "circle", backward: "rect" })[mode] ?? "path";

/** An SVG of every ratio to torch, a panel for each thread count. Right of the dashed line Evenkeel is faster. */
export function chart({ runs }) {
  let y = 0;
  const panels = [];
  for (const run of runs) {
    const { svg, height } = panel(run, y);
    if (height === 0) continue;
    panels.push(svg);
    y += height + gap - 30;
  }
  const width = left + plot + 40;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 10}" viewBox="0 0 ${width} ${y + 10}" role="img">`,
    `<title>Evenkeel against torch, cell by cell</title><style>${style}</style>`,
    `<rect class="back" width="${width}" height="${y + 10}"/>`,
    ...panels,
    "</svg>\n",
  ].join("\n");
}
