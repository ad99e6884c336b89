// How much of the time that messages take is hidden behind backward.
import { fileURLToPath } from "node:url";
import { UsageError } from "../command_line.js";
import { isInstalled, launch, launchers } from "./launch.js";
import { openNetwork } from "./namespaces.js";
import { readOverlapOptions } from "./overlap_options.js";

const program = fileURLToPath(new URL("./overlap_rank.js", import.meta.url));

async function main() {
  const { mpis, gbits, help, ...task } = readOverlapOptions(process.argv.slice(2));
  if (help) return void console.log(help);
  const missing = mpis?.find((mpi) => !isInstalled(mpi));
  if (missing) throw new UsageError(`${missing} is not installed: apt install openmpi-bin, or mpich`);
  const network = gbits === null ? null : openNetwork({ bitsPerSecond: gbits * 1e9 });
  try {
    for (const mpi of mpis ?? Object.keys(launchers).filter(isInstalled)) {
      const { code, output } = await launch(mpi, 2, [program, JSON.stringify(task)], { network, timeout: 590 });
      process.stdout.write(output);
      if (code !== 0) throw new Error(`${mpi} ended with code ${code}`);
    }
  } finally {
    network?.close();
  }
}

try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  console.error(`overlap: ${usage ? `${error.message}. See --help` : error.stack}`);
  process.exitCode = usage ? 2 : 1;
}
