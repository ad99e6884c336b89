import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gpuCells } from "../cases/gpu.js";
import { choose, UsageError } from "../command_line.js";
import { machine } from "../machine.js";
import { startGpu, startReference, startTorch } from "../participants/all.js";
import { readOptions } from "./options.js";
import { pack } from "./pack.js";
import { copyRates, runCase } from "./run_case.js";
import { cellsOf, heading, heads, legend, markdown, row, summaries, textLine } from "./table.js";
import { printTraffic } from "./traffic.js";

/** As ../measure.js has it. A sample of many queued calls hides the wait for the device's answer at its end. */
const paces = {
  gpu: { sample: 60, rounds: 9, warm: 200, lead: 10, most: 3000 },
  tiny: { sample: 50, rounds: 3, warm: 50, lead: 0, most: 250 },
};

/** A device that cannot be had: no fault of the command line. */
class NoDevice extends Error {}

async function startOurs(options) {
  const ours = await startGpu(options);
  if (ours.absent) throw new NoDevice(ours.absent);
  return ours;
}

const torchLine = (torch) => {
  if (torch.absent) return `torch takes no part: ${torch.absent}`;
  const { cuda } = torch.about;
  return cuda ? `torch ${torch.version} on ${cuda}` : `torch ${torch.version} is not timed: it finds no CUDA device`;
};

/** What came of a case; one that breaks, out of memory say, is noted, and the next gets a fresh device. */
async function tryCase(subject, modes, people, pace, folder) {
  try {
    return await runCase(subject, modes, people, pace, folder);
  } catch (error) {
    people.ours.stop();
    people.ours = await startOurs();
    return { timings: {}, errors: null, notes: [`${subject.id}: ${error.message}`], wrong: true };
  }
}

/** Times case after case into `results`, which are saved after each: a run that is cut off leaves what it had. */
async function measure(cells, people, pace, folder, results, save) {
  for (const subject of new Set(cells.map((cell) => cell.subject))) {
    const here = cells.filter((cell) => cell.subject === subject);
    const modes = here.map(({ mode }) => mode);
    const { timings, errors, notes, wrong } = await tryCase(subject, modes, people, pace, folder);
    results.notes.push(...notes);
    results.wrong ||= wrong;
    for (const note of notes) console.log(note);
    for (const cell of here.filter(({ mode }) => timings[mode]?.evenkeel.ms)) {
      results.rows.push(row(cell, timings[cell.mode], errors, results.rates));
      console.log(textLine(cellsOf(results.rows.at(-1))));
    }
    save(results);
  }
}

async function bench(options, folder, save) {
  const started = performance.now();
  const people = { ours: await startOurs(), torch: null, reference: null };
  const { ours } = people;
  const torch = await startTorch();
  try {
    const quick = options.quick || ours.about.software;
    const size = quick ? "tiny" : "gpu";
    const cells = choose(options.only, gpuCells[size]);
    if (cells.length === 0) throw new UsageError(`--only names no cell of the size "${size}", which this device gets`);
    const bytes = new Set(cells.map(({ subject }) => subject.bytes).filter(Boolean));
    const rates = await copyRates(bytes, ours, paces[size]);
    const about = { machine: machine(), device: ours.about, torch: torchLine(torch), quick, rates };
    console.log([...heading(about), legend, "", textLine(heads)].join("\n"));
    if (torch.absent) people.reference = await startReference();
    else people.torch = torch;
    const results = { ...about, version: ours.version, seconds: 0, wrong: false, rows: [], notes: [] };
    await measure(cells, people, paces[size], folder, results, save);
    for (const line of summaries(results.rows)) console.log(line);
    results.seconds = (performance.now() - started) / 1000;
    return results;
  } finally {
    for (const participant of [...Object.values(people), torch]) participant?.stop();
  }
}

async function main() {
  const options = readOptions(process.argv.slice(2), gpuCells);
  if (options.help) return void console.log(options.help);
  if (options.list) return void console.log([...new Set(Object.values(gpuCells).flat())].map((c) => c.name).join("\n"));
  if (!existsSync(new URL("../../dist/index.js", import.meta.url))) {
    throw new UsageError("the library is not built: run npm ci (or npm run build) in the folder above");
  }
  if (options.pack) return pack(resolve(options.pack));
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-bench-gpu-"));
  try {
    if (options.traffic) return await printTraffic(await startOurs({ traffic: true }), options, folder);
    const out = resolve(options.out);
    mkdirSync(out, { recursive: true });
    const save = (results) => {
      writeFileSync(join(out, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
      writeFileSync(join(out, "results.md"), markdown(results));
    };
    const results = await bench(options, folder, save);
    save(results);
    console.log(`\n${results.seconds.toFixed(0)} s. ${join(out, "results.json")} and results.md are written.`);
    if (results.wrong) process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  const known = error instanceof UsageError ? 2 : error instanceof NoDevice ? 1 : 0;
  const more = error instanceof UsageError ? ". See npm run bench:gpu -- --help" : "";
  console.error(`bench:gpu: ${known ? error.message : error.stack}${more}`);
  process.exitCode = known || 1;
}
