import { initDistributed } from "../distributed/index.js";
import { onRankZero, together } from "../distributed/together.js";
import type { DeviceName } from "../memory/device.js";
import { EventLog, summarise, Trainer } from "../train/index.js";
import { resultsTable } from "../train/report/report.js";
import { exitCodeOf, type StopSignal } from "../train/signals.js";
import type { AddCommand } from "./command_line.js";
import { type DataName, loadData } from "./datasets.js";
import { experiment } from "./experiment.js";
import { type NormKind, normKinds } from "./models.js";
import { addSharedOptions, setUp } from "./options.js";
import { makeFolder, say, textTable, writeResults } from "./output.js";
import { plan, type Run, studyCurves, studyTable } from "./study.js";
import { count, listOf, oneOf } from "./values.js";

interface CompareOptions {
  readonly data: DataName;
  readonly dataDir?: string;
  readonly norms: readonly NormKind[];
  readonly epochs: number;
  readonly batchSize: number;
  readonly batchSizes?: readonly number[];
  readonly seeds: number;
  readonly lr: number;
  readonly seed: number;
  readonly threads?: number;
  readonly device: DeviceName;
  readonly accumulateSteps: number;
  readonly syncBatchNorm: boolean;
  readonly out?: string;
  readonly json?: true;
}

export const compareCommand: AddCommand = (program, done) => {
  addSharedOptions(program.command("compare"))
    .description("Train the same network with each normalization and compare them.")
    .option("--norms <kinds>", "which ones, with commas between", listOf(oneOf(normKinds)), normKinds)
    .option("--batch-sizes <sizes>", "train with each of these batch sizes, for example 32,16,8,4,2", listOf(count))
    .option("--seeds <n>", "train so many times, with seeds from --seed on, and show mean and spread", count, 1)
    .action(async (options: CompareOptions) => done(await compare(options)));
};

async function compare(options: CompareOptions): Promise<number> {
  const communicator = initDistributed();
  const machine = await setUp(options, communicator);
  const splits = together(communicator, () => loadData(options.data, options.dataDir));
  const folder = onRankZero(communicator, () => makeFolder(options.out));
  const sizes = [...new Set(options.batchSizes ?? [options.batchSize])];
  const { data, epochs, lr, device, accumulateSteps, syncBatchNorm } = options;
  const seeds = Array.from({ length: options.seeds }, (_, i) => options.seed + i);
  const several = sizes.length > 1 || seeds.length > 1;
  const runs: Run[] = [];
  let signal: StopSignal | null = null;
  for (const { batchSize, seed, norm } of plan(sizes, seeds, [...new Set(options.norms)])) {
    if (signal) break;
    const log = new EventLog(norm);
    const settings = {
      ...{ data, norm, epochs, batchSize, seed, device, accumulateSteps, syncBatchNorm },
      dataDir: options.dataDir ?? null,
      lr: rateFor(batchSize, options),
    };
    const name = [norm, ...(sizes.length > 1 ? [batchSize] : []), ...(seeds.length > 1 ? [`seed ${seed}`] : [])].join(
      "/",
    );
    const trainer = new Trainer({
      ...experiment(settings, splits, communicator),
      ...{ name, callbacks: [log], progress: true, signals: "return" },
    });
    signal = (await trainer.fit()).signal;
    const group = seeds.length > 1 ? `batch size ${batchSize}, seed ${seed}` : `batch size ${batchSize}`;
    runs.push({ name: norm, norm, batchSize, seed, events: log.events, ...(several ? { group } : {}) });
  }
  const tables = several ? [studyTable(runs, sizes)] : [];
  const scaled = sizes.length > 1 ? ` times the root of batch size / ${options.batchSize}` : "";
  const notes = [
    machine,
    `${epochs} epochs, batch size ${sizes.join(", ")}, AdamW with learning rate ${lr}${scaled}, ${seedText(seeds)}`,
  ];
  const summary = {
    ...{ command: "compare", data, epochs, lr, seed: options.seed, device, machine, ranks: communicator.size },
    runs: runs.map((run) => ({ batchSize: run.batchSize, seed: run.seed, ...summarise(run) })),
  };
  const report = onRankZero(communicator, () =>
    writeResults(
      folder,
      {
        ...{ title: `Normalizations compared on ${data}`, notes, runs, tables },
        ...(sizes.length > 1 ? { study: studyCurves(runs, sizes) } : {}),
      },
      summary,
    ),
  );
  const code = signal ? exitCodeOf(signal) : 0;
  if (communicator.rank > 0) return code;
  for (const table of [...tables, resultsTable(runs)]) say(`\n${textTable(table)}`);
  say(`\nReport: ${report}`);
  if (signal) {
    process.stderr.write(`Stopped by ${signal}; the report holds what was done until then\n`);
    return code;
  }
  if (options.json) say(JSON.stringify({ report, ...summary }));
  return 0;
}

const seedText = (seeds: readonly number[]): string =>
  seeds.length === 1 ? `seed ${seeds[0]}` : `seeds ${seeds[0]} to ${seeds.at(-1)}`;

/** Adam's steps are about as noisy as one over the root of the batch size; the rate goes with it. */
const rateFor = (batchSize: number, { lr, batchSize: base }: CompareOptions): number =>
  lr * Math.sqrt(batchSize / base);
