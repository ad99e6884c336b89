import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { cells } from "./cases/all.js";
import { UsageError } from "./command_line.js";
import { machine } from "./machine.js";
import { paces } from "./measure.js";
import { readOptions } from "./options.js";
import { startParticipants, startReference } from "./participants/all.js";
import { chart } from "./report/chart.js";
import { markdown } from "./report/markdown.js";
import { page } from "./report/page.js";
import { row } from "./report/rows.js";
import { printHead, printRow, printSummary } from "./report/table.js";
import { rooflines } from "./roofline.js";
import { runCase, WrongResult } from "./run_case.js";

async function runThreads(threads, chosen, options, folder, reference) {
  const wanted = options.peers;
  const all = await startParticipants(wanted, threads);
  const here = all.filter((p) => !p.absent);
  const absent = all.filter((p) => p.absent).map((p) => `${p.name} takes no part: ${p.absent}`);
  try {
    if (here[0]?.name !== "evenkeel") throw new Error(all[0].absent);
    console.log(
      `\n== ${threads} thread${threads === 1 ? "" : "s"}: ${here.map((p) => `${p.name} ${p.version}`).join(", ")}`,
    );
    for (const line of absent) console.log(line);
    const copies = await rooflines(here, chosen, options.pace);
    printHead(here.slice(1).map((p) => p.name));
    const rows = [];
    const notes = [...absent];
    for (const subject of new Set(chosen.map((cell) => cell.subject))) {
      const modes = chosen.filter((cell) => cell.subject === subject).map((cell) => cell.mode);
      const { timings, notes: found } = await runCase(subject, modes, here, reference, options.pace, folder);
      notes.push(...found);
      for (const mode of modes) {
        rows.push(row(subject, mode, threads, timings[mode], copies));
        printRow(
          rows.at(-1),
          here.slice(1).map((p) => p.name),
        );
      }
    }
    return { threads, versions: Object.fromEntries(here.map((p) => [p.name, p.version])), copies, rows, notes };
  } finally {
    for (const participant of all) participant.stop();
  }
}

async function main() {
  const options = readOptions(process.argv.slice(2), cells);
  if (options.help) return void console.log(options.help);
  if (options.list) return void console.log(options.cells.map((cell) => cell.name).join("\n"));
  if (!existsSync(new URL("../dist/index.js", import.meta.url))) {
    throw new UsageError("the library is not built: run npm ci (or npm run build) in the folder above");
  }
  options.pace = paces[options.quick ? "quick" : "full"];
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-bench-"));
  const reference = await startReference();
  const runs = [];
  try {
    if (reference.absent) throw new Error(reference.absent);
    console.log(Object.values(machine()).join("; "));
    for (const threads of options.threads)
      runs.push(await runThreads(threads, options.cells, options, folder, reference));
  } finally {
    reference.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  const seconds = (performance.now() - started) / 1000;
  const results = { machine: machine(), quick: options.quick, seconds, runs };
  const out = resolve(options.out);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(out, "chart.svg"), chart(results));
  writeFileSync(join(out, "report.html"), page(results));
  writeFileSync(join(out, "results.md"), markdown(results));
  printSummary(results);
  console.log(
    `\n${seconds.toFixed(0)} s. ${join(out, "results.json")}, results.md, chart.svg and report.html are written.`,
  );
}

try {
  await main();
} catch (error) {
  const known = error instanceof UsageError ? 2 : error instanceof WrongResult ? 1 : 0;
  console.error(
    `bench: ${known ? error.message : error.stack}${error instanceof UsageError ? ". See npm run bench -- --help" : ""}`,
  );
  process.exitCode = known || 1;
}
