import { availableParallelism } from "node:os";
import { join } from "node:path";
import { InvalidArgumentError } from "commander";
import { profile } from "../autograd/index.js";
import { writeAtomically } from "../io/files/atomic_file.js";
import { profileTable, renderProfilePage, type StepProfile } from "../train/report/profile_page.js";
import type { AddCommand } from "./command_line.js";
import { setUp } from "./options.js";
import { makeFolder, say, textTable } from "./output.js";
import { type StepMemory, stepMemory } from "./step_memory.js";
import { type StepModel, stepModels, type TrainingStep } from "./step_models.js";
import { type StepTimes, timeSteps } from "./step_times.js";
import { count, listOf, oneOf } from "./values.js";

interface BenchOptions {
  readonly only?: readonly string[];
  readonly threads?: number;
  readonly steps?: number;
  readonly quick?: true;
  readonly profile?: true;
  readonly json?: true;
  readonly out?: string;
}

const STEPS = 30;
const QUICK_STEPS = 8;
const SEED = 0;
const names = stepModels.map((m) => m.name);

export const benchCommand: AddCommand = (program, done) => {
  const machine = availableParallelism();
  program
    .command("bench")
    .description("Time training steps of this package on this machine.")
    .option("--only <names>", `which ones, with commas between: ${names.join(", ")}`, listOf(oneOf(names)))
    .option("--threads <n>", `threads to compute on, at most the ${machine} of this machine (default: all)`, threads)
    .option("--steps <n>", `steps to time (default: ${STEPS})`, count)
    .option("--quick", `only ${QUICK_STEPS} steps`)
    .option("--profile", "time and bytes of each op, and a page with a flame chart")
    .option("--json", "end with one line of JSON on standard output")
    .option("--out <folder>", "where bench.json and profile.html go (default: runs/<time>, if there is a page)")
    .action(async (options: BenchOptions) => done(await bench(options)));
};

/** Unlike for training, more threads than the machine has are of no use here: they measure the scheduler. */
function threads(value: string): number {
  const [n, most] = [count(value), availableParallelism()];
  if (n > most) throw new InvalidArgumentError(`This machine runs ${most} at a time.`);
  return n;
}

interface Result {
  readonly name: string;
  readonly times: StepTimes;
  readonly memory: StepMemory;
  readonly profiled: StepProfile | null;
}

async function bench(options: BenchOptions): Promise<number> {
  const machine = await setUp({ ...options, device: "cpu" });
  const steps = options.steps ?? (options.quick ? QUICK_STEPS : STEPS);
  // A folder that cannot be made is to be known before the timings.
  const folder = options.out !== undefined || options.profile ? makeFolder(options.out) : null;
  const chosen = stepModels.filter((m) => !options.only || options.only.includes(m.name));
  const results = chosen.map((m) => measure(m, steps, options.profile === true));
  say(machine);
  say(textTable(timesTable(results)));
  const profiles = results.flatMap((r) => (r.profiled ? [r.profiled] : []));
  for (const p of profiles) {
    const table = profileTable(p);
    say(`\n${table.title}\n${textTable(table)}`);
  }
  const report = { machine, results: results.map(plain) };
  if (folder !== null) {
    writeAtomically(join(folder, "bench.json"), [Buffer.from(`${JSON.stringify(report, null, 2)}\n`)]);
  }
  if (folder !== null && profiles.length > 0) {
    const path = join(folder, "profile.html");
    const page = renderProfilePage({ title: "Where the time of a training step goes", notes: [machine], profiles });
    writeAtomically(path, [Buffer.from(page)]);
    say(`\nPage: ${path}`);
  }
  if (options.json) say(JSON.stringify(report));
  return 0;
}

function measure(model: StepModel, steps: number, profiling: boolean): Result {
  const step = model.build(SEED);
  try {
    const times = timeSteps(step, steps);
    const memory = stepMemory(step);
    return { name: model.name, times, memory, profiled: profiling ? profileSteps(model.name, step, steps) : null };
  } finally {
    release(step);
  }
}

function profileSteps(name: string, { step }: TrainingStep, steps: number): StepProfile {
  const all = () => {
    for (let i = 0; i < steps; i++) step();
  };
  return { name, steps, profile: profile(all) };
}

/** Models come one after the other, and the memory of one must not count for the next. */
function release({ model, optimizer, batch }: TrainingStep): void {
  optimizer.zeroGrad();
  optimizer.dispose();
  model.dispose();
  for (const t of Object.values(batch)) t.dispose();
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

function timesTable(results: readonly Result[]) {
  return {
    title: "Training steps",
    head: ["Model", "ms/step", "Spread", "", "Peak MiB", "Planned MiB", "Peak/planned"],
    rows: results.map(({ name, times, memory }) => [
      name,
      times.median.toFixed(2),
      `${(100 * times.spread).toFixed(0)} %`,
      times.disturbed ? "disturbed" : "",
      mib(memory.peak),
      mib(memory.planned),
      (memory.peak / memory.planned).toFixed(2),
    ]),
    note:
      "Spread: between the quartiles, of the median; above 30 % something disturbed the run. " +
      "Planned: batch, parameters, gradients, optimizer state and saved values.",
  };
}

const plain = ({ name, times, memory, profiled }: Result) => ({
  name,
  ...{ median: times.median, spread: times.spread, disturbed: times.disturbed, steps: times.milliseconds.length },
  memory,
  ...(profiled ? { profile: profiled.profile } : {}),
});
