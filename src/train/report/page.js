// @ts-check
// Runs inside the report, as an inline module after uPlot; it may import nothing but types.

/** @typedef {import("./columns.js").Line} Line */
/** @typedef {import("./report.js").PageData} PageData */
/** @typedef {{ label: string, color: string, dash: number[], x: readonly number[], y: readonly number[],
 *   low?: readonly number[], high?: readonly number[] }} Series */
/** @typedef {{ title: string, hint?: string, xTitle: string, height: number, series: Series[], log?: boolean,
 *   range?: [number, number], doubling?: boolean, format: (value: number) => string }} Chart */

/** @type {typeof import("uplot")} */
const Plot = /** @type {any} */ (globalThis).uPlot;
/** @type {PageData} */
const data = JSON.parse(document.getElementById("data")?.textContent ?? "");
const app = /** @type {HTMLElement} */ (document.getElementById("app"));

const COLOURS = 6;
const dashes = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const names = [...new Set(data.runs.map((run) => run.name))];
const withLayers = () => data.runs.filter((run) => run.group === state.group && run.layers.length > 0);

const state = {
  /** @type {Set<string>} */
  hidden: new Set(),
  log: true,
  smooth: true,
  top: false,
  group: data.groups[0] ?? "",
  statistics: "",
};

/** @type {{ plot: import("uplot"), box: HTMLElement }[]} */
let plots = [];

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} [children]
 */
function element(tag, attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @param {string} name */
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** @param {string} name */
function look(name) {
  const index = names.indexOf(name);
  return { color: css(`--run-${index % COLOURS}`), dash: dashes[Math.floor(index / COLOURS) % dashes.length] ?? [] };
}

/** @param {number} value */
function compact(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

/** @param {number} value */
const percent = (value) => `${Number((100 * value).toFixed(2))} %`;

/**
 * Exponential moving average over about the last 20 values, started at the first.
 * @param {readonly number[]} y
 */
function smoothed(y) {
  let mean = y[0] ?? 0;
  return y.map((value, i) => {
    mean += (value - mean) / Math.min(i + 1, 20);
    return mean;
  });
}

/** @param {Chart} chart */
function drawChart(chart) {
  const series = chart.series.filter((s) => s.x.length > 0);
  const caption = element("figcaption", {}, [chart.title]);
  if (chart.hint) caption.append(element("small", {}, [chart.hint]));
  const label = `${chart.title}: ${series.map((s) => s.label).join(", ") || "nothing recorded"}`;
  const box = element("div", { class: "plot", tabindex: "0", role: "img", "aria-label": label });
  const readout = element("div", { class: "readout", "aria-live": "polite" });
  const figure = element("figure", {}, [caption, box, readout]);
  if (series.length === 0) {
    box.replaceWith(element("p", { class: "note" }, ["Nothing recorded."]));
    return figure;
  }
  // Drawn once the figure is in the page and has a width.
  requestAnimationFrame(() => {
    if (!box.isConnected) return;
    const plot = new Plot(options(chart, series, box, readout), table(series, chart.log ?? false), box);
    plots.push({ plot, box });
    box.addEventListener("keydown", (event) => moveCursor(plot, event));
  });
  return figure;
}

/**
 * One shared x for all series; a band is two series more.
 * @param {Series[]} series
 * @param {boolean} log
 */
function table(series, log) {
  // A logarithmic axis has no place for zero and below.
  /** @param {readonly number[]} values */
  const clean = (values) => values.map((v) => (log && !(v > 0) ? null : v));
  const tables = series.map((s) => {
    const columns = [[...s.x], clean(s.y)];
    if (s.low && s.high) columns.push(clean(s.low), clean(s.high));
    return columns;
  });
  return Plot.join(/** @type {any} */ (tables));
}

/**
 * @param {Chart} chart
 * @param {Series[]} series
 * @param {HTMLElement} box
 * @param {HTMLElement} readout
 * @returns {import("uplot").Options}
 */
function options(chart, series, box, readout) {
  /** @type {import("uplot").Series[]} */
  const drawn = [{}];
  /** @type {import("uplot").Band[]} */
  const bands = [];
  /** @type {number[]} */
  const places = [];
  for (const s of series) {
    places.push(drawn.length);
    const points = { show: s.x.length <= 8, size: 6 };
    drawn.push({ label: s.label, stroke: s.color, dash: s.dash, width: 1.75, points });
    if (s.low && s.high) {
      const edge = { stroke: "transparent", width: 0, points: { show: false } };
      bands.push({ series: [drawn.length + 1, drawn.length], fill: `${s.color}30` });
      drawn.push({ ...edge, label: "" }, { ...edge, label: "" });
    }
  }
  const ink = css("--soft");
  const grid = { stroke: css("--line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: ink, grid, ticks: { ...grid, size: 4 }, font, labelFont: font };
  return {
    width: box.clientWidth,
    height: chart.height,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: {
      x: { time: false, ...(chart.doubling ? { distr: 3, log: 2 } : {}) },
      y: { distr: chart.log ? 3 : 1, ...(chart.range ? { range: chart.range } : {}) },
    },
    axes: [
      { ...axis, label: chart.xTitle, labelSize: 18, size: 30 },
      { ...axis, size: 58, values: (_, splits) => splits.map((v) => (v === null ? "" : chart.format(v))) },
    ],
    series: drawn,
    bands,
    hooks: { setCursor: [(plot) => showValues(plot, chart, series, places, readout)] },
  };
}

/**
 * @param {import("uplot")} plot
 * @param {Chart} chart
 * @param {Series[]} series
 * @param {number[]} places
 * @param {HTMLElement} readout
 */
function showValues(plot, chart, series, places, readout) {
  const index = plot.cursor.idx;
  if (index === null || index === undefined) return readout.replaceChildren();
  const parts = series.flatMap((s, i) => {
    const value = plot.data[places[i] ?? 0]?.[index];
    if (value === null || value === undefined) return [];
    const name = element("b", {}, [s.label]);
    name.style.color = s.color;
    const low = s.low && plot.data[(places[i] ?? 0) + 1]?.[index];
    const high = s.high && plot.data[(places[i] ?? 0) + 2]?.[index];
    const band = typeof low === "number" && typeof high === "number" ? ` (${compact(low)} … ${compact(high)})` : "";
    return [element("span", {}, [name, ` ${chart.format(value)}${band}`])];
  });
  readout.replaceChildren(element("span", {}, [`${chart.xTitle} ${plot.data[0][index]}`]), ...parts);
}

/**
 * Arrow keys move the cursor by a point, with Shift by ten; Home and End go to the ends, Escape takes it away.
 * @param {import("uplot")} plot
 * @param {KeyboardEvent} event
 */
function moveCursor(plot, event) {
  const last = plot.data[0].length - 1;
  const at = plot.cursor.idx ?? -1;
  const pace = event.shiftKey ? 10 : 1;
  /** @type {Record<string, number>} */
  const targets = { ArrowLeft: at - pace, ArrowRight: at + pace, Home: 0, End: last, Escape: -1 };
  const target = targets[event.key];
  if (target === undefined) return;
  event.preventDefault();
  if (event.key === "Escape") return plot.setCursor({ left: -10, top: -10 });
  const x = plot.data[0][Math.min(last, Math.max(0, target))] ?? 0;
  plot.setCursor({ left: plot.valToPos(x, "x"), top: plot.over.clientHeight / 2 });
}

/** @param {"loss" | "testLoss" | "accuracy"} what */
function runSeries(what) {
  return data.runs
    .filter((run) => run.group === state.group && !state.hidden.has(run.name))
    .map((run) => {
      const { x, y } = run[what];
      return { label: run.name, ...look(run.name), x, y: what === "loss" && state.smooth ? smoothed(y) : y };
    });
}

function curves() {
  const height = 260;
  const xTitle = "step";
  return element("div", { class: "charts" }, [
    drawChart({ title: "Training loss", xTitle, height, series: runSeries("loss"), log: state.log, format: compact }),
    drawChart({
      title: "Test accuracy",
      xTitle,
      height,
      series: runSeries("accuracy"),
      format: percent,
      ...(state.top ? { range: /** @type {[number, number]} */ ([0.9, 1]) } : {}),
    }),
    drawChart({ title: "Test loss", xTitle, height, series: runSeries("testLoss"), log: state.log, format: compact }),
  ]);
}

function layerSections() {
  const run = withLayers().find((r) => r.name === state.statistics);
  if (!run) return [];
  return run.layers.map(({ layer, kind, charts }) => {
    const heading = element("h3", {}, [`Layer ${layer || "(the whole model)"} `, element("small", {}, [kind])]);
    const drawn = charts.map(({ title, lines }) => {
      const series = lines.map((line, i) => ({
        label: line.name,
        color: css(i === 0 ? "--run-1" : "--run-2"),
        dash: i === 0 ? [] : [6, 4],
        x: line.x,
        y: line.y,
        ...(i === 0 && line.low && line.high ? { low: line.low, high: line.high } : {}),
      }));
      const hint = lines.length > 1 ? "— input   - - running" : "";
      return drawChart({ title, hint, xTitle: "step", height: 180, series, format: compact });
    });
    return element("section", {}, [heading, element("div", { class: "charts small" }, drawn)]);
  });
}

/**
 * @param {string} text
 * @param {"log" | "smooth" | "top"} key
 */
function checkbox(text, key) {
  const input = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox" }));
  input.checked = state[key];
  input.addEventListener("change", () => {
    state[key] = input.checked;
    draw();
  });
  return element("label", {}, [input, text]);
}

/**
 * @param {string} text
 * @param {readonly string[]} values
 * @param {"group" | "statistics"} key
 */
function choice(text, values, key) {
  const select = /** @type {HTMLSelectElement} */ (element("select"));
  for (const value of values) select.append(element("option", { value }, [value]));
  select.value = state[key];
  select.addEventListener("change", () => {
    state[key] = select.value;
    draw();
  });
  return element("label", {}, [text, select]);
}

/** @param {string} name */
function legendButton(name) {
  const { color, dash } = look(name);
  const button = element("button", { type: "button", "aria-pressed": "true" });
  button.innerHTML = `<svg viewBox="0 0 28 12" aria-hidden="true"><path d="M0 6h28" stroke-width="4"/></svg>`;
  const stroke = button.querySelector("path");
  stroke?.setAttribute("stroke", color);
  stroke?.setAttribute("stroke-dasharray", dash.join(" "));
  button.append(name);
  button.setAttribute("aria-pressed", String(!state.hidden.has(name)));
  button.addEventListener("click", () => {
    if (!state.hidden.delete(name)) state.hidden.add(name);
    button.setAttribute("aria-pressed", String(!state.hidden.has(name)));
    draw();
  });
  return element("li", {}, [button]);
}

const legend = element("ul", { class: "legend", "aria-label": "Runs shown" });
const study = element("div");
const curvesPlace = element("div");
const statisticsBar = element("div", { class: "controls" });
const statisticsPlace = element("div");

function draw() {
  for (const { plot } of plots) plot.destroy();
  plots = [];
  const layered = withLayers().map((run) => run.name);
  if (!layered.includes(state.statistics)) state.statistics = layered[0] ?? "";
  curvesPlace.replaceChildren(curves());
  statisticsPlace.replaceChildren(...layerSections());
  if (data.study) {
    const { title, xTitle, lines } = data.study;
    const series = lines
      .filter((line) => !state.hidden.has(line.name))
      .map((line) => ({ label: line.name, ...look(line.name), x: line.x, y: line.y }));
    study.replaceChildren(drawChart({ title, xTitle, height: 260, series, doubling: true, format: percent }));
  }
}

function drawLegend() {
  legend.replaceChildren(...names.map(legendButton));
}

function build() {
  const controls = element("div", { class: "controls" });
  if (data.groups.length > 1) controls.append(choice("Runs with", data.groups, "group"));
  controls.append(checkbox("Log loss", "log"), checkbox("Smooth", "smooth"), checkbox("Accuracy from 90 %", "top"));
  const bar = element("div", { class: "sticky" }, [legend]);
  app.replaceChildren(element("section", {}, [element("h2", {}, ["Curves"]), bar, study, controls, curvesPlace]));
  const layered = [...new Set(data.runs.filter((run) => run.layers.length > 0).map((run) => run.name))];
  if (layered.length > 0) {
    state.statistics = layered[0] ?? "";
    statisticsBar.append(choice("Run", layered, "statistics"));
    app.append(
      element("h2", {}, ["Normalization layers"]),
      element("p", { class: "note" }, ["Lines are means over channels; bands reach from the smallest to the largest."]),
      statisticsBar,
      statisticsPlace,
    );
  }
  drawLegend();
  draw();
}

build();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawLegend();
  draw();
});
let width = 0;
new ResizeObserver(() => {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  for (const { plot, box } of plots) plot.setSize({ width: box.clientWidth, height: plot.height });
}).observe(document.documentElement);
