import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { FormatError } from "../base/errors.js";
import type { DeviceName } from "../memory/device.js";
import { scope } from "../memory/scope.js";
import { readState } from "../train/checkpoint/checkpoint.js";
import { summarise, Trainer, type TrainerResult } from "../train/index.js";
import { formatLoss, formatPercent, formatRate, formatSeconds } from "../train/numbers.js";
import { exitCodeOf } from "../train/signals.js";
import type { AddCommand } from "./command_line.js";
import { type DataName, loadData } from "./datasets.js";
import { defaults, experiment, type Settings } from "./experiment.js";
import { type NormKind, normKinds } from "./models.js";
import { addSharedOptions, setUp } from "./options.js";
import { EventFile, makeFolder, say, writeResults } from "./output.js";
import { UsageError } from "./usage_error.js";
import { oneOf } from "./values.js";

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
  readonly out?: string;
  readonly resume?: string;
  readonly json?: true;
}

const CHECKPOINT = "checkpoint.evk";

export const trainCommand: AddCommand = (program, done) => {
  const command = program.command("train").description("Train a small convolutional network with one normalization.");
  addSharedOptions(command)
    .option("--norm <kind>", `normalization: ${normKinds.join(", ")}`, oneOf(normKinds), defaults.norm)
    .option("--resume <path>", "go on from a checkpoint, or from the folder of an earlier run")
    .action(async (options: TrainOptions) => done(await train(options, command)));
};

async function train(options: TrainOptions, command: Command): Promise<number> {
  const resume = options.resume === undefined ? null : checkpointPath(options.resume);
  const { settings, step } = resume
    ? savedRun(resume, options, command)
    : { settings: settingsOf(options), step: null };
  const machine = await setUp({ ...options, device: settings.device });
  const splits = loadData(settings.data, settings.dataDir ?? undefined);
  const folder = makeFolder(options.out ?? (resume ? dirname(resume) : undefined));
  const events = new EventFile(join(folder, "events.jsonl"), step);
  const path = join(folder, CHECKPOINT);
  const trainer = new Trainer({
    ...experiment(settings, splits),
    ...{ callbacks: [events], checkpoint: { path }, progress: true, signals: "return" },
  });
  if (resume) trainer.resume(resume);
  const result = await trainer.fit();
  const record = { name: settings.norm, events: events.events };
  const title = `${settings.data}, ${settings.norm === "none" ? "no" : settings.norm} normalization`;
  const report = writeResults(
    folder,
    { title, notes: [machine, describe(settings)], runs: [record] },
    {
      settings,
      machine,
      ...summarise(record),
    },
  );
  if (result.signal) {
    process.stderr.write(
      `Stopped by ${result.signal} after step ${result.steps}. Go on with: evenkeel train --resume ${folder}\n`,
    );
    return exitCodeOf(result.signal);
  }
  say(sentence(result));
  say(`Report: ${report}`);
  if (options.json) say(jsonLine(result));
  return 0;
}

const settingsOf = ({ data, dataDir, norm, epochs, batchSize, lr, seed, device }: TrainOptions): Settings => ({
  ...{ data, dataDir: dataDir ?? null, norm, epochs, batchSize, lr, seed, device },
});

const describe = ({ epochs, batchSize, lr, seed }: Settings): string =>
  `${epochs} epochs, batch size ${batchSize}, AdamW with learning rate ${lr}, seed ${seed}`;

/** A folder means the checkpoint in it. */
function checkpointPath(given: string): string {
  return existsSync(given) && statSync(given).isDirectory() ? join(given, CHECKPOINT) : given;
}

/** What may differ from the run that is resumed; the rest comes from it, and saying something else is an error. */
const mayChange: readonly (keyof Settings)[] = ["epochs", "dataDir", "device"];

function savedRun(path: string, options: TrainOptions, command: Command): { settings: Settings; step: number } {
  const { settings, step } = scope(() => {
    const state = readState(path);
    return { settings: state.settings as Settings | undefined, step: state.step as number };
  });
  if (!settings || !normKinds.includes(settings.norm)) {
    throw new FormatError({
      rule: "--resume takes a checkpoint that evenkeel train wrote",
      got: `${path}, which has no settings of a run`,
    });
  }
  const given = settingsOf(options);
  const said = (Object.keys(given) as (keyof Settings)[]).filter((k) => command.getOptionValueSource(k) === "cli");
  for (const key of said) {
    if (mayChange.includes(key) || given[key] === settings[key]) continue;
    const flag = `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
    throw new UsageError(
      `${path} was made with ${flag} ${settings[key]}; got ${given[key]}. Leave ${flag} out, or train anew without --resume.`,
    );
  }
  const changes = Object.fromEntries(said.map((key) => [key, given[key]]));
  // Runs of before there was a choice were on the CPU.
  return { settings: { ...settings, device: settings.device ?? "cpu", ...changes }, step };
}

function sentence(r: TrainerResult): string {
  const speed = `${r.steps} steps in ${formatSeconds(r.seconds)} s (${formatRate(r.stepsPerSecond)} steps/s)`;
  const losses = `test loss ${formatLoss(r.testLoss)}, train loss ${formatLoss(r.trainLoss)}`;
  return `Test accuracy ${formatPercent(r.testAccuracy)}, ${losses}, ${speed}`;
}

function jsonLine({ testAccuracy, trainLoss, steps, seconds, stepsPerSecond, lossHash }: TrainerResult): string {
  return JSON.stringify({ testAccuracy, trainLoss, steps, seconds, stepsPerSecond, lossHash });
}
