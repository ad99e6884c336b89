import { checkMessages, linesOf, networks, predictStep, subjects } from "./predict.js";
import { bytesOf } from "./print.js";

const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 14px } .soft { fill: #59636e } .rule { stroke: #d1d9e0 } .back { fill: #ffffff }
  path { fill: none; stroke-width: 1.8 } .dashed { stroke-dasharray: 5 4 }
  .c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #1a7f37 } .c3 { stroke: #8250df } .c4 { stroke: #59636e }
  circle { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .soft { fill: #9198a1 } .rule { stroke: #3d444d } .back { fill: #0d1117 }
    .c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #3fb950 } .c3 { stroke: #bc8cff } .c4 { stroke: #9198a1 }
  }`;

const [left, top, width, height, legend] = [70, 44, 500, 280, 220];

/** A scale from values to places, logarithmic or not. */
function scale([least, most], [from, to], logarithmic) {
  const f = logarithmic ? Math.log : (v) => v;
  return (v) => +(from + ((f(v) - f(least)) / (f(most) - f(least))) * (to - from)).toFixed(1);
}

/** A plot of `series` ({ name, points, marks, dashed, color }): `points` are joined, `marks` are circles; both are lists of [x, y]. */
function plot({ title, x, y, series }, y0) {
  const toX = scale(x.range, [left, left + width], x.logarithmic);
  const toY = scale(y.range, [y0 + top + height, y0 + top], y.logarithmic);
  const out = [`<text class="title" x="12" y="${y0 + 22}">${title}</text>`];
  for (const v of x.ticks) {
    out.push(`<line class="rule" x1="${toX(v)}" x2="${toX(v)}" y1="${y0 + top}" y2="${y0 + top + height}"/>`);
    out.push(
      `<text class="soft" x="${toX(v)}" y="${y0 + top + height + 18}" text-anchor="middle">${x.label(v)}</text>`,
    );
  }
  for (const v of y.ticks) {
    out.push(`<line class="rule" x1="${left}" x2="${left + width}" y1="${toY(v)}" y2="${toY(v)}"/>`);
    out.push(`<text class="soft" x="${left - 8}" y="${toY(v) + 4}" text-anchor="end">${y.label(v)}</text>`);
  }
  series.forEach(({ name, points, marks = [], dashed = false, color }, i) => {
    const kind = `c${color}${dashed ? " dashed" : ""}`;
    const line = points.map(([a, b], j) => `${j ? "L" : "M"}${toX(a)} ${toY(b)}`).join("");
    out.push(`<path class="${kind}" d="${line}"/>`);
    for (const [a, b] of marks) out.push(`<circle class="c${color}" cx="${toX(a)}" cy="${toY(b)}" r="3"/>`);
    if (!name) return;
    const at = y0 + top + 8 + 20 * series.slice(0, i).filter((before) => before.name).length;
    out.push(`<path class="${kind}" d="M${left + width + 16} ${at}h24"/>`);
    out.push(`<text x="${left + width + 48}" y="${at + 4}">${name}</text>`);
  });
  return out.join("\n");
}

function picture(title, plots) {
  const [w, h] = [left + width + legend, plots.length * (top + height + 44)];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" role="img">`,
    `<title>${title}</title><style>${style}</style><rect class="back" width="${w}" height="${h}"/>`,
    ...plots.map((p, i) => plot(p, i * (top + height + 44))),
    "</svg>\n",
  ].join("\n");
}

const powers = (from, to, base) => {
  const count = Math.floor(Math.log(to / from) / Math.log(base) + 1e-9);
  return Array.from({ length: count + 1 }, (_, i) => from * base ** i);
};

/** Ordered sums of 2 ranks by bytes: circles are measured, lines the model's. */
export function messagesChart(measured) {
  const runs = measured.runs.filter((r) => r.mpi === "openmpi" && r.ranks === 2 && r.messages);
  const series = runs.map((run, color) => {
    const found = checkMessages(measured, run).filter(({ kind }) => kind === "ordered");
    return {
      ...{ name: run.link?.name ?? "shared memory (fitted)", color },
      marks: found.map(({ bytes, seconds }) => [bytes, seconds * 1000]),
      points: found.map(({ bytes, predicted }) => [bytes, predicted * 1000]),
    };
  });
  const x = { logarithmic: true, range: [4, 2 ** 24], ticks: powers(4, 2 ** 24, 16), label: bytesOf };
  const y = {
    logarithmic: true,
    range: [0.001, 1000],
    ticks: powers(0.001, 1000, 10),
    label: (v) => `${+v.toPrecision(1)} ms`,
  };
  const title = "An all-reduce of 2 ranks (Open MPI, ordered): measured (circles) and the model (lines)";
  return picture(title, [{ title, x, y, series }]);
}

/** Weak efficiency by ranks, a plot for each network. */
export function efficiencyChart(measured) {
  const lines = linesOf(measured, "openmpi");
  const ranks = powers(2, 1024, 2);
  const plots = networks.map((network) => ({
    title: `${network.name}: share of the time that is computing (dashed: without hiding messages)`,
    x: { logarithmic: true, range: [2, 1024], ticks: ranks, label: (v) => `${Math.round(v)}` },
    y: { range: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], label: (v) => `${100 * v} %` },
    series: subjects(measured).flatMap((subject, color) =>
      [false, true].map((dashed) => ({
        ...{ name: dashed ? "" : subject.name, color, dashed },
        points: ranks.map((n) => {
          const { ordered, hidden } = predictStep(subject, Math.round(n), { lines, network });
          return [n, subject.compute / (dashed ? ordered : hidden).seconds];
        }),
      })),
    ),
  }));
  return picture("Weak efficiency by ranks, as predicted", plots);
}
