// The training job that is killed: one process, or a rank of several. It goes on from its newest whole checkpoint. Arguments: the folder for
// its files, then options as JSON. Rank 0 says how it ended as one line of JSON, and in the file `phase` what it is doing.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { initDistributed } from "../../../dist/distributed/index.js";
import { defaults, makeTrainer } from "./parts.mjs";

const folder = process.argv[2];
/** `at`: shell commands that rank 0 runs after a step; `pause`: milliseconds after each step; `stopAt`: the last step of this part. */
const options = { ...defaults, disk: folder, at: {}, pause: 0, stopAt: null, ...JSON.parse(process.argv[3] ?? "{}") };
const communicator = initDistributed();
const first = communicator.rank === 0;

const phase = (name) => {
  if (first) writeFileSync(join(folder, "phase"), name);
};

const losses = [];
const watcher = {
  async onEvent({ type, step, loss }, trainer) {
    phase(type === "runEnd" ? "end" : type === "runStart" ? "first steps" : "steps");
    if (type !== "step") return;
    losses.push(loss);
    if (step === options.stopAt) trainer.stop();
    if (first && options.at[step]) execFileSync("sh", ["-c", options.at[step]], { stdio: "ignore" });
    if (options.pause > 0) await new Promise((resolve) => setTimeout(resolve, options.pause));
  },
};
phase("start");
const tell = () => phase("evaluation");
const trainer = makeTrainer({ folder: options.disk, communicator, options, callbacks: [watcher], tell });
const resumed = trainer.resume("auto");
const { lossHash, steps, testAccuracy, testLoss } = await trainer.fit();
phase("leaving");
if (first) {
  const result = { lossHash, steps, testAccuracy, testLoss, resumed, ranks: communicator.size, losses };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
