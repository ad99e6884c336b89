import Plot from "uplot";
import { Curve } from "./curve.js";
import { element, styleValue } from "./elements.js";

export interface ChartOptions {
  readonly title: string;
  /** What one sees, in one line. */
  readonly explanation: string;
  /** Names of the lines; the first takes the first colour. */
  readonly lines: readonly string[];
  readonly logarithmic?: boolean;
  /** The least range of the y axis that is always shown. */
  readonly range?: readonly [number, number];
  readonly format: (value: number) => string;
  /** For the marks of the y axis, which are round numbers. */
  readonly axisFormat: (value: number) => string;
}

const HEIGHT = 180;
const FONT = "12px system-ui, sans-serif";

/** Of the marks of a logarithmic axis only powers of ten get a line. */
const decades = (_: Plot, splits: number[]): (number | null)[] =>
  splits.map((v) => (Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? v : null));

/** A figure with growing lines, its latest values as text beside it. */
export class Chart {
  readonly figure: HTMLElement;
  private readonly curves: Curve[];
  private readonly box: HTMLElement;
  private readonly values: HTMLElement[];
  private plot: Plot | null = null;
  private stale = false;

  constructor(private readonly options: ChartOptions) {
    const { title, explanation, lines } = options;
    this.curves = lines.map(() => new Curve());
    this.values = lines.map(() => element("output", {}, ["–"]));
    const keys = lines.map((name, i) =>
      element("span", { class: "key" }, [
        element("i", { style: `background: var(--line-${i})`, "aria-hidden": "true" }),
        `${name} `,
        this.values[i]!,
      ]),
    );
    this.box = element("div", { class: "plot", role: "img", "aria-label": `${title}: nothing yet` });
    const caption = element("figcaption", {}, [
      element("b", {}, [title]),
      element("span", { class: "note" }, [explanation]),
      element("span", { class: "keys" }, keys),
    ]);
    this.figure = element("figure", { class: "card" }, [caption, this.box]);
    new ResizeObserver(() => this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT })).observe(this.box);
  }

  add(line: number, x: number, y: number): void {
    this.curves[line]!.add(x, y);
    this.drawSoon();
  }

  clear(): void {
    for (const curve of this.curves) curve.clear();
    this.drawSoon();
  }

  /** Draws anew, in the colours that hold now. */
  restyle(): void {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  private drawSoon(): void {
    if (this.stale) return;
    this.stale = true;
    requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    this.stale = false;
    this.plot ??= new Plot(this.plotOptions(), this.table(), this.box);
    this.plot.setData(this.table());
    const { title, lines, format } = this.options;
    const latest = this.curves.map(({ last }) => (last === null ? "–" : format(last)));
    for (const [i, text] of latest.entries()) this.values[i]!.textContent = text;
    const step = Math.max(0, ...this.curves.map((c) => c.x.at(-1) ?? 0));
    const said = lines.map((name, i) => `${name} ${latest[i]}`).join(", ");
    this.box.setAttribute("aria-label", step === 0 ? `${title}: nothing yet` : `${title} at step ${step}: ${said}`);
  }

  private table(): Plot.AlignedData {
    // A logarithmic axis has no place for zero and below.
    const clean = (values: number[]) =>
      this.options.logarithmic ? values.map((v) => (v > 0 ? v : null)) : values.slice();
    const filled = this.curves.filter((c) => c.x.length > 0);
    if (filled.length === 0) return [[0], ...this.curves.map(() => [null])] as Plot.AlignedData;
    return Plot.join(this.curves.map((c) => [c.x.slice(), clean(c.y)]) as Plot.AlignedData[]);
  }

  private plotOptions(): Plot.Options {
    const { lines, logarithmic = false, range, axisFormat } = this.options;
    const grid = { stroke: styleValue("--line"), width: 1 };
    const axis = {
      ...{ stroke: styleValue("--soft"), grid, ticks: { ...grid, size: 4 } },
      font: FONT,
    };
    const within = range
      ? {
          range: (_: Plot, low: number, high: number): [number, number] => [
            Math.min(range[0], low ?? 0),
            Math.max(range[1], high ?? 1),
          ],
        }
      : {};
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1, ...within } },
      axes: [
        { ...axis, size: 28, label: "step", labelSize: 16, labelGap: 0, labelFont: FONT },
        {
          ...axis,
          grid: logarithmic ? { ...grid, filter: decades } : grid,
          size: 52,
          values: (_, splits) => splits.map((v) => (v === null ? "" : axisFormat(v))),
        },
      ],
      series: [
        {},
        ...lines.map((label, i) => ({
          ...{ label, stroke: styleValue(`--line-${i}`), width: 1.5, spanGaps: true },
          points: { show: false },
        })),
      ],
    };
  }
}
