import { Chart } from "./chart.js";
import type { Progress } from "./messages.js";
import { compact, percent, round } from "./numbers.js";
import type { LayerStatistics } from "./statistics.js";

/** Weight of a new loss in the smoothed curve: about the last 20 steps count. */
const NEW = 1 / 10;

/** The four charts of the page. */
export class Charts {
  private readonly loss = new Chart({
    title: "Loss",
    explanation: "Cross entropy: training, smoothed over 20 steps, and on digits it never saw.",
    lines: ["training", "test"],
    logarithmic: true,
    format: compact,
    axisFormat: round,
  });
  private readonly accuracy = new Chart({
    title: "Test accuracy",
    explanation: "Share of 360 unseen digits that are read right.",
    lines: ["accuracy"],
    range: [0.7, 1],
    format: (v) => percent(v),
    axisFormat: (v) => percent(v, 0),
  });
  private readonly spread = new Chart({
    title: "Std before normalization",
    explanation: "How far each layer's numbers spread before they are normalized.",
    lines: ["conv 1", "conv 2", "conv 3", "linear"],
    logarithmic: true,
    format: compact,
    axisFormat: round,
  });
  private readonly gradient = new Chart({
    title: "Gradient / weights",
    explanation: "How hard each step pulls at a layer's weights, by their own size.",
    lines: ["conv 1", "conv 2", "conv 3", "linear"],
    logarithmic: true,
    format: compact,
    axisFormat: round,
  });
  private smooth: number | null = null;

  constructor(place: HTMLElement) {
    place.append(...this.all.map((chart) => chart.figure));
    for (const chart of this.all) chart.clear();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const chart of this.all) chart.restyle();
    });
  }

  private get all(): Chart[] {
    return [this.loss, this.accuracy, this.spread, this.gradient];
  }

  clear(): void {
    this.smooth = null;
    for (const chart of this.all) chart.clear();
  }

  addLosses({ step, losses }: Progress): void {
    for (const [i, loss] of losses.entries()) {
      this.smooth = this.smooth === null ? loss : this.smooth + NEW * (loss - this.smooth);
      this.loss.add(0, step - losses.length + 1 + i, this.smooth);
    }
  }

  addEvaluation(step: number, loss: number, accuracy: number): void {
    this.loss.add(1, step, loss);
    this.accuracy.add(0, step, accuracy);
  }

  addLayers(step: number, layers: readonly LayerStatistics[]): void {
    for (const [i, { std, relativeGradient }] of layers.entries()) {
      this.spread.add(i, step, std);
      this.gradient.add(i, step, relativeGradient);
    }
  }
}
