import { gpuCells } from "../cases/gpu.js";
import { choose } from "../command_line.js";
import { removeFiles, writeInputs } from "./check.js";

const LARGE = new Set(["x", "dy", "y", "dx"]);

/** `x 2.00, y 1.00` and so on: how many times each operand of the input's size is moved, and what else is, over that size. */
function told(shader, bytes) {
  const large = [];
  let rest = 0;
  for (const { name, bytes: moved } of shader.operands) {
    if (LARGE.has(name)) large.push(`${name} ${(moved / bytes).toFixed(2)}`);
    else rest += moved;
  }
  return { large, rest: rest / bytes };
}

/**
 * Prints what the shaders of each normalization load and store: operands as large as the input in times of their size, and the
 * rest (statistics, weights, partial sums) over that size, as lanes ask for it: most of the rest lies in caches.
 */
export async function printTraffic(ours, { only, quick }, folder) {
  try {
    const cells = choose(only, gpuCells[quick ? "tiny" : "gpu"]).filter(({ subject }) => subject.kind === "norm");
    console.log(
      "cell; least; moved of x, y, dy, dx / least; shaders: groups x lanes, times each operand is moved, rest",
    );
    for (const { name, subject, mode } of cells) {
      const inputs = writeInputs(subject, folder);
      await ours.ask("prepare", { subject, inputs, folder, check: false });
      const { shaders } = await ours.ask("accesses", { mode });
      removeFiles(inputs);
      const least = subject.traffic[mode];
      const moved = shaders.flatMap((s) => s.operands).filter((o) => LARGE.has(o.name));
      const total = moved.reduce((sum, o) => sum + o.bytes, 0);
      console.log(`${name}; ${(least / 1e6).toFixed(0)} MB; ${(total / least).toFixed(2)}`);
      for (const shader of shaders) {
        const { large, rest } = told(shader, subject.bytes);
        const parts = [...large, `rest ${rest.toFixed(3)}`].join(", ");
        console.log(`    ${shader.program}: ${shader.groups} x ${shader.lanes}: ${parts}`);
      }
    }
  } finally {
    ours.stop();
  }
}
