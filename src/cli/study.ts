import { type ReportTable, type RunRecord, summarise } from "../train/index.js";
import { formatPercent } from "../train/numbers.js";
import type { NormKind } from "./models.js";

/** A run of a comparison, with what sets it apart. */
export interface Run extends RunRecord {
  readonly norm: NormKind;
  readonly batchSize: number;
  readonly seed: number;
  readonly group?: string;
}

/** Every combination, batch size by batch size. */
export const plan = (
  sizes: readonly number[],
  seeds: readonly number[],
  norms: readonly NormKind[],
): { batchSize: number; seed: number; norm: NormKind }[] =>
  sizes.flatMap((batchSize) => seeds.flatMap((seed) => norms.map((norm) => ({ batchSize, seed, norm }))));

function accuraciesOf(runs: readonly Run[], norm: NormKind, batchSize: number): number[] {
  return runs
    .filter((r) => r.norm === norm && r.batchSize === batchSize)
    .map((r) => summarise(r).testAccuracy)
    .filter((a) => a !== null);
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Standard deviation of a sample, with n - 1. */
const spread = (values: readonly number[]): number =>
  Math.sqrt(values.reduce((sum, v) => sum + (v - mean(values)) ** 2, 0) / (values.length - 1));

function cell(accuracies: readonly number[]): string {
  if (accuracies.length === 0) return formatPercent(null);
  const average = formatPercent(mean(accuracies));
  return accuracies.length === 1 ? average : `${average} ± ${(100 * spread(accuracies)).toFixed(2)}`;
}

export const studyTable = (runs: readonly Run[], sizes: readonly number[]): ReportTable => ({
  title: "Test accuracy by batch size",
  head: ["Batch size", ...sizes.map(String)],
  rows: [...new Set(runs.map((r) => r.norm))].map((norm) => [
    norm,
    ...sizes.map((size) => cell(accuraciesOf(runs, norm, size))),
  ]),
  note: "The last test accuracy of each run; over several seeds their mean ± standard deviation.",
});

export function studyCurves(runs: readonly Run[], sizes: readonly number[]) {
  const x = [...sizes].sort((a, b) => a - b);
  const lines = [...new Set(runs.map((r) => r.norm))].map((norm) => {
    const points = x.flatMap((size) => {
      const accuracies = accuraciesOf(runs, norm, size);
      return accuracies.length === 0 ? [] : [{ size, accuracy: mean(accuracies) }];
    });
    return { name: norm, x: points.map((p) => p.size), y: points.map((p) => p.accuracy) };
  });
  return { title: "Test accuracy by batch size", xTitle: "batch size", lines };
}
