import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../command_line.js";
import { machine } from "../machine.js";
import { isInstalled, launch, launchers } from "./launch.js";
import { openNetwork } from "./namespaces.js";
import { readOptions } from "./options.js";
import { printRun } from "./print.js";

const program = fileURLToPath(new URL("./rank.js", import.meta.url));
/** Seconds that a job may take. */
const TIMEOUT = 600;

async function measure(mpi, ranks, link, { parts, models, quick }) {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-scaling-"));
  const network = link && openNetwork(link);
  try {
    const file = join(folder, "results.json");
    const task = JSON.stringify({ parts, models, quick, file });
    const { code, output } = await launch(mpi, ranks, [program, task], { network, timeout: TIMEOUT });
    if (code !== 0) throw new Error(`${ranks} ranks of ${mpi} ended with code ${code}:\n${output}`);
    return JSON.parse(readFileSync(file, "utf8"));
  } finally {
    network?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const isSame = (a, b) => a.mpi === b.mpi && a.ranks === b.ranks && a.link?.name === b.link?.name;

/** What a new run measured takes the place of what an old one did; the rest stays. */
function add(runs, run) {
  const old = runs.find((r) => isSame(r, run));
  if (!old) return [...runs, run];
  const steps = run.steps && [
    ...(old.steps ?? []).filter((o) => !run.steps.some((s) => s.model === o.model)),
    ...run.steps,
  ];
  return runs.map((r) => (r === old ? { ...old, ...run, ...(steps ? { steps } : {}) } : r));
}

async function main() {
  const options = readOptions(process.argv.slice(2));
  if (options.help) return void console.log(options.help);
  if (!existsSync(new URL("../../dist/index.js", import.meta.url)))
    throw new UsageError("the library is not built: run npm ci (or npm run build) in the folder above");
  const mpis = options.mpis ?? Object.keys(launchers).filter(isInstalled);
  const missing = mpis.find((mpi) => !isInstalled(mpi));
  if (missing || mpis.length === 0)
    throw new UsageError(`${missing ?? "no MPI"} is not installed: apt install openmpi-bin, or mpich`);
  const out = resolve(options.out);
  mkdirSync(out, { recursive: true });
  const path = join(out, "results.json");
  let runs = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).runs : [];
  console.log(Object.values(machine()).join("; "));
  for (const link of options.links)
    for (const ranks of options.ranks)
      for (const mpi of mpis) {
        const results = await measure(mpi, ranks, link, options);
        const run = { mpi, ranks, link, oversubscribed: ranks > cpus().length, ...results };
        printRun(run);
        runs = add(runs, run);
        writeFileSync(path, `${JSON.stringify({ machine: machine(), runs }, null, 1)}\n`);
      }
  console.log(`\n${path} is written.`);
}

// So that what is done at the end is: ranks stopped, namespaces taken away. A second signal must not break into it.
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
])
  process.on(signal, () => process.exit(code));
try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  console.error(`bench: ${usage ? `${error.message}. See npm run bench:scaling -- --help` : error.stack}`);
  process.exitCode = usage ? 2 : 1;
}
