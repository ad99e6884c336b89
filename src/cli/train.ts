import { join } from "node:path";
import type { Command } from "commander";
import { initDistributed } from "../distributed/index.js";
import { onRankZero, together } from "../distributed/together.js";
import type { DeviceName } from "../memory/device.js";
import { summarise, Trainer, type TrainerResult } from "../train/index.js";
import { formatLoss, formatPercent, formatRate, formatSeconds } from "../train/numbers.js";
import { exitCodeOf } from "../train/signals.js";
import type { AddCommand } from "./command_line.js";
import { type DataName, loadData } from "./datasets.js";
import { defaults, experiment, type Settings } from "./experiment.js";
import { type NormKind, normKinds } from "./models.js";
import { addSharedOptions, setUp } from "./options.js";
import { EventFile, makeFolder, say, writeResults } from "./output.js";
import { announceRanks } from "./ranks.js";
import { beginning, CHECKPOINT } from "./resume.js";
import { count, oneOf } from "./values.js";

interface TrainOptions {
  readonly data: DataName;
  readonly dataDir?: string;
  readonly norm: NormKind;
  readonly epochs: number;
  readonly batchSize: number;
  readonly lr: number;
  readonly seed: number;
  readonly threads?: number;
  readonly device: DeviceName;
  readonly accumulateSteps: number;
  readonly syncBatchNorm: boolean;
  readonly checkpointEvery?: number;
  readonly keep: number;
  readonly out?: string;
  readonly resume?: string;
  readonly json?: true;
}

export const trainCommand: AddCommand = (program, done) => {
  const command = program.command("train").description("Train a small convolutional network with one normalization.");
  addSharedOptions(command)
    .option("--norm <kind>", `normalization: ${normKinds.join(", ")}`, oneOf(normKinds), defaults.norm)
    .option("--checkpoint-every <steps>", "save so often (default: after each epoch)", count)
    .option("--keep <n>", "keep so many newest checkpoints, for the day when the newest is damaged", count, 2)
    .option(
      "--resume <path>",
      "go on from a checkpoint, or the folder of an earlier run; auto: from --out, if it has one",
    )
    .action(async (options: TrainOptions) => done(await train(options, command)));
};

async function train(options: TrainOptions, command: Command): Promise<number> {
  const communicator = initDistributed();
  const { checkpointEvery: everySteps, keep } = options;
  const { settings, from, folder } = onRankZero(communicator, () => {
    const begun = beginning(settingsOf(options), options, command);
    return { ...begun, folder: makeFolder(options.out ?? begun.from?.folder) };
  });
  const machine = await setUp({ ...options, device: settings.device }, communicator);
  const { trainer, events } = together(communicator, () => {
    const splits = loadData(settings.data, settings.dataDir ?? undefined);
    const events = communicator.rank === 0 ? new EventFile(join(folder, "events.jsonl"), from?.step ?? null) : null;
    const trainer = new Trainer({
      ...experiment(settings, splits, communicator),
      ...{ callbacks: events ? [events] : [], progress: true, signals: "return" },
      checkpoint: { path: join(folder, CHECKPOINT), keep, ...(everySteps === undefined ? {} : { everySteps }) },
    });
    return { trainer, events };
  });
  announceRanks(communicator, settings);
  if (from) trainer.resume(from.path);
  const result = await trainer.fit();
  const report = onRankZero(communicator, () => {
    const record = { name: settings.norm, events: events!.events };
    const title = `${settings.data}, ${settings.norm === "none" ? "no" : settings.norm} normalization`;
    return writeResults(
      folder,
      { title, notes: [machine, describe(settings)], runs: [record] },
      { settings, machine, ranks: communicator.size, ...summarise(record) },
    );
  });
  if (communicator.rank === 0) tell(result, { folder, report, json: options.json === true });
  return result.signal ? exitCodeOf(result.signal) : 0;
}

function tell(
  result: TrainerResult,
  { folder, report, json }: { folder: string; report: string; json: boolean },
): void {
  if (result.signal) {
    process.stderr.write(
      `Stopped by ${result.signal} after step ${result.steps}. Go on with: evenkeel train --resume ${folder}\n`,
    );
    return;
  }
  say(sentence(result));
  say(`Report: ${report}`);
  if (json) say(jsonLine(result));
}

const settingsOf = (options: TrainOptions): Settings => {
  const { data, dataDir = null, norm, epochs, batchSize, lr, seed, device, accumulateSteps, syncBatchNorm } = options;
  return { data, dataDir, norm, epochs, batchSize, lr, seed, device, accumulateSteps, syncBatchNorm };
};

const describe = ({ epochs, batchSize, accumulateSteps, lr, seed }: Settings): string => {
  const batches = accumulateSteps > 1 ? `, ${accumulateSteps} batches to a step` : "";
  return `${epochs} epochs, batch size ${batchSize}${batches}, AdamW with learning rate ${lr}, seed ${seed}`;
};

function sentence(r: TrainerResult): string {
  const speed = `${r.steps} steps in ${formatSeconds(r.seconds)} s (${formatRate(r.stepsPerSecond)} steps/s)`;
  const losses = `test loss ${formatLoss(r.testLoss)}, train loss ${formatLoss(r.trainLoss)}`;
  return `Test accuracy ${formatPercent(r.testAccuracy)}, ${losses}, ${speed}`;
}

function jsonLine({ testAccuracy, trainLoss, steps, seconds, stepsPerSecond, lossHash }: TrainerResult): string {
  return JSON.stringify({ testAccuracy, trainLoss, steps, seconds, stepsPerSecond, lossHash });
}
