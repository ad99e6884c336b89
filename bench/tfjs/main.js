// TensorFlow.js's normalization layers beside Evenkeel's, inside TensorFlow.js, in turns in one process.
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { checkNames, choose, parse, UsageError } from "../command_line.js";
import { machine } from "../machine.js";
import { summary } from "../measure.js";
import { relativeError } from "../verify.js";
import { cases, sides } from "./cases.js";
import { open } from "./libraries.js";

const help = `node bench/tfjs/main.js [options]

Times TensorFlow.js's normalization layers and Evenkeel's in the same models, after checking that both give the same numbers.

train: forward, and the gradients of x, gamma and beta. predict: forward by itself. dense fit: a step of model.fit, 64 rows
through a dense network 64-256-256-10 with two normalizations.

  --only <text>      cases whose name has all these words; may be given more than once
  --backend <name>   cpu or wasm; without it both
  --threads <n>      threads of both libraries; without it all cores
  --quick            fewer samples
  --list             print the names of the cases
  --help
`;

const backends = ["cpu", "wasm"];
/** Milliseconds a sample, samples, and the most milliseconds of a side; a step that takes longer stands for itself. */
const paces = { full: { sample: 20, rounds: 11, most: 2500 }, quick: { sample: 2, rounds: 3, most: 50 } };

function readOptions(args) {
  const { only = [], ...o } = parse(args, {
    ...{ only: { type: "string", multiple: true }, backend: { type: "string" }, threads: { type: "string" } },
    ...{ quick: { type: "boolean" }, list: { type: "boolean" }, help: { type: "boolean" } },
  });
  checkNames(only, cases);
  if (o.backend !== undefined && !backends.includes(o.backend))
    throw new UsageError(`--backend is cpu or wasm; got "${o.backend}"`);
  const threads = Number(o.threads ?? availableParallelism());
  if (!Number.isInteger(threads) || threads < 1)
    throw new UsageError(`--threads is a whole number of at least 1; got "${o.threads}"`);
  return {
    ...{
      help: o.help,
      list: o.list,
      threads,
      backends: o.backend ? [o.backend] : backends,
      cases: choose(only, cases),
    },
    pace: paces[o.quick ? "quick" : "full"],
  };
}

async function milliseconds(step, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) await step();
  return (performance.now() - start) / calls;
}

/** Warms up for at least a tenth of a second; the milliseconds of the last call. */
async function warmUp(step) {
  let spent = 0;
  let ms = 0;
  while (spent < 100) {
    ms = await milliseconds(step, 1);
    spent += ms;
  }
  return ms;
}

/** Median milliseconds of each side, sampled in turns: A B B A A B ... */
async function time(entries, { sample, rounds, most }) {
  const timed = [];
  for (const { step } of entries) {
    const ms = await warmUp(step);
    const calls = Math.max(1, Math.round(sample / ms));
    timed.push({ step, calls, turns: Math.min(rounds, Math.floor(most / (calls * ms))), samples: [ms] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const one of round % 2 ? [...timed].reverse() : timed) {
      if (one.turns <= round) continue;
      if (round === 0) one.samples = [];
      one.samples.push(await milliseconds(one.step, one.calls));
    }
  }
  return timed.map(({ samples }) => summary(samples).ms);
}

async function runCase(libraries, { name, open }, pace) {
  const entries = sides.map((side) => open(libraries, side));
  try {
    const [ours, stock] = await Promise.all(entries.map(({ results }) => results()));
    const difference = Math.max(...ours.map((values, i) => relativeError(values, stock[i])));
    if (!(difference < 1e-4)) throw new Error(`${name}: results differ by ${difference}`);
    return await time(entries, pace);
  } finally {
    for (const { dispose } of entries) dispose();
  }
}

async function main() {
  const options = readOptions(process.argv.slice(2));
  if (options.help) return void console.log(help);
  if (options.list) return void console.log(options.cases.map(({ name }) => name).join("\n"));
  if (!existsSync(new URL("../../dist/tfjs/index.js", import.meta.url)))
    throw new UsageError("the library is not built: run npm run build in the folder above");
  console.log(`${Object.values(machine()).join("; ")}; ${options.threads} threads\n`);
  console.log("| backend | step | TensorFlow.js's layer, ms | Evenkeel's, ms | ratio |");
  console.log("| --- | --- | --- | --- | --- |");
  for (const backend of options.backends) {
    const libraries = await open(backend, options.threads);
    for (const one of options.cases) {
      const [ours, stock] = await runCase(libraries, one, options.pace);
      const ratio = (stock / ours).toFixed(1);
      console.log(`| ${backend} | ${one.name} | ${stock.toFixed(2)} | ${ours.toFixed(2)} | ${ratio} |`);
    }
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof UsageError ? `${error.message}. See --help` : error.stack}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
// TensorFlow.js's wasm backend keeps its workers.
process.exit();
