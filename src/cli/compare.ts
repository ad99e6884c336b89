import type { ReportTable, RunRecord, RunSummary } from "../train/index.js";
import { EventLog, summarise, Trainer } from "../train/index.js";
import { formatPercent } from "../train/numbers.js";
import { resultsTable } from "../train/report/report.js";
import { exitCodeOf, type StopSignal } from "../train/signals.js";
import type { AddCommand } from "./command_line.js";
import { type DataName, loadData } from "./datasets.js";
import { experiment } from "./experiment.js";
import { type NormKind, normKinds } from "./models.js";
import { addSharedOptions, setUp } from "./options.js";
import { makeFolder, say, textTable, writeResults } from "./output.js";
import { count, listOf, oneOf } from "./values.js";

interface CompareOptions {
  readonly data: DataName;
  readonly dataDir?: string;
  readonly norms: readonly NormKind[];
  readonly epochs: number;
  readonly batchSize: number;
  readonly batchSizes?: readonly number[];
  readonly lr: number;
  readonly seed: number;
  readonly threads?: number;
  readonly device: string;
  readonly out?: string;
  readonly json?: true;
}

interface Run extends RunRecord {
  readonly norm: NormKind;
  readonly batchSize: number;
  readonly group?: string;
}

export const compareCommand: AddCommand = (program, done) => {
  addSharedOptions(program.command("compare"))
    .description("Train the same network with each normalization and compare them.")
    .option("--norms <kinds>", "which ones, with commas between", listOf(oneOf(normKinds)), normKinds)
    .option("--batch-sizes <sizes>", "train with each of these batch sizes, for example 32,16,8,4,2", listOf(count))
    .action(async (options: CompareOptions) => done(await compare(options)));
};

async function compare(options: CompareOptions): Promise<number> {
  const machine = setUp(options);
  const splits = loadData(options.data, options.dataDir);
  const folder = makeFolder(options.out);
  const sizes = [...new Set(options.batchSizes ?? [options.batchSize])];
  const { data, epochs, lr, seed } = options;
  const runs: Run[] = [];
  let signal: StopSignal | null = null;
  for (const batchSize of sizes) {
    for (const norm of new Set(options.norms)) {
      if (signal) break;
      const group = sizes.length > 1 ? `batch size ${batchSize}` : undefined;
      const log = new EventLog(norm);
      const settings = {
        data,
        dataDir: options.dataDir ?? null,
        norm,
        epochs,
        batchSize,
        seed,
        lr: rateFor(batchSize, options),
      };
      const trainer = new Trainer({
        ...experiment(settings, splits),
        ...{ name: group ? `${norm}/${batchSize}` : norm, callbacks: [log], progress: true, signals: "return" },
      });
      signal = (await trainer.fit()).signal;
      runs.push({ name: norm, norm, batchSize, events: log.events, ...(group ? { group } : {}) });
    }
  }
  const tables = sizes.length > 1 ? [studyTable(runs, sizes)] : [];
  const scaled = sizes.length > 1 ? ` times the root of batch size / ${options.batchSize}` : "";
  const notes = [
    machine,
    `${epochs} epochs, batch size ${sizes.join(", ")}, AdamW with learning rate ${lr}${scaled}, seed ${seed}`,
  ];
  const summary = {
    ...{ command: "compare", data, epochs, lr, seed, machine },
    runs: runs.map((run) => ({ batchSize: run.batchSize, ...summarise(run) })),
  };
  const report = writeResults(
    folder,
    {
      ...{ title: `Normalizations compared on ${data}`, notes, runs, tables },
      ...(sizes.length > 1 ? { study: study(runs, sizes) } : {}),
    },
    summary,
  );
  for (const table of [...tables, resultsTable(runs)]) say(`\n${textTable(table)}`);
  say(`\nReport: ${report}`);
  if (signal) {
    process.stderr.write(`Stopped by ${signal}; the report holds what was done until then\n`);
    return exitCodeOf(signal);
  }
  if (options.json) say(JSON.stringify({ report, ...summary }));
  return 0;
}

/** Adam's steps are about as noisy as one over the root of the batch size; the rate goes with it. */
const rateFor = (batchSize: number, { lr, batchSize: base }: CompareOptions): number =>
  lr * Math.sqrt(batchSize / base);

const accuracyOf = (runs: readonly Run[], norm: NormKind, batchSize: number): RunSummary["testAccuracy"] => {
  const run = runs.find((r) => r.norm === norm && r.batchSize === batchSize);
  return run ? summarise(run).testAccuracy : null;
};

function studyTable(runs: readonly Run[], sizes: readonly number[]): ReportTable {
  return {
    title: "Test accuracy by batch size",
    head: ["Batch size", ...sizes.map(String)],
    rows: [...new Set(runs.map((r) => r.norm))].map((norm) => [
      norm,
      ...sizes.map((size) => formatPercent(accuracyOf(runs, norm, size))),
    ]),
    note: "The last test accuracy of each run.",
  };
}

function study(runs: readonly Run[], sizes: readonly number[]) {
  const x = [...sizes].sort((a, b) => a - b);
  const lines = [...new Set(runs.map((r) => r.norm))].map((norm) => {
    const points = x.flatMap((size) => {
      const accuracy = accuracyOf(runs, norm, size);
      return accuracy === null ? [] : [{ size, accuracy }];
    });
    return { name: norm, x: points.map((p) => p.size), y: points.map((p) => p.accuracy) };
  });
  return { title: "Test accuracy by batch size", xTitle: "batch size", lines };
}
