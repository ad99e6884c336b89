// How much of the time that messages take is hidden behind backward, for two ranks of one thread each. After npm run build:
//   node bench/scaling/overlap.mjs [--mpi openmpi|mpich] [--gbits 1] [--buckets 1048576,...] [--models "MLP,CNN 28x28"] [--milliseconds 90]
// With --gbits the ranks are in network namespaces joined by a link of that rate (Linux, root); without, they share this machine's memory.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { GradientReducer, initDistributed, sumGradients } from "../../dist/distributed/index.js";
import { F, manualSeed, nn, randn, scope, setThreads, tensor } from "../../dist/index.js";
import { isInstalled, launch, launchers } from "./launch.js";
import { models } from "./models.js";
import { openNetwork } from "./namespaces.js";
import { timeInTurns } from "./turns.js";

const { values } = parseArgs({
  options: {
    mpi: { type: "string" },
    gbits: { type: "string" },
    buckets: { type: "string", default: `${1 << 20}` },
    models: { type: "string", default: models.map(({ name }) => name).join(",") },
    milliseconds: { type: "string", default: "90" },
    rank: { type: "boolean", default: false },
  },
});

/** Milliseconds of a step with messages during backward, with one after it, and with none; and what a reducer counted. */
function timeModel({ build, batch, inner, optimizer: optimizerOf }, communicator, buckets, sample) {
  const { rank, size } = communicator;
  manualSeed(7);
  const model = build((c) => new nn.BatchNorm2d(c));
  const parameters = [...model.parameters()];
  const optimizer = optimizerOf(parameters);
  manualSeed(1 + rank);
  const x = randn([batch, ...inner]);
  const y = tensor(
    Int32Array.from({ length: batch }, (_, i) => (i * 7 + rank) % 10),
    { dtype: "int32" },
  );
  const step = (then) =>
    scope(() => {
      const loss = F.crossEntropy(model.forward(x), y).div(size);
      optimizer.zeroGrad();
      loss.backward();
      then?.();
      optimizer.step();
    });
  return buckets.map((bucketBytes) => {
    const reducer = new GradientReducer(communicator, parameters, { gradients: "sum", bucketBytes });
    const quiet = (then) => reducer.noSync(() => step(then));
    const times = timeInTurns(
      communicator,
      {
        none: { body: () => quiet() },
        overlap: { body: () => step() },
        after: { body: () => quiet(() => sumGradients(communicator, parameters)) },
      },
      { sample, rounds: 8 },
    );
    const { statistics } = reducer;
    reducer.close();
    return { bucketBytes, times, statistics };
  });
}

function runRank() {
  setThreads(1);
  const communicator = initDistributed({ timeout: 50 });
  const family = process.env.OMPI_COMM_WORLD_SIZE ? "Open MPI" : "MPICH";
  const chosen = models.filter(({ name }) => values.models.split(",").includes(name));
  for (const model of chosen) {
    const buckets = values.buckets.split(",").map(Number);
    const rows = timeModel(model, communicator, buckets, Number(values.milliseconds));
    if (communicator.rank > 0) continue;
    for (const { bucketBytes, times, statistics: s } of rows) {
      const [none, after, overlap] = [times.none, times.after, times.overlap].map((t) => t.ms);
      const share = (after - overlap) / (after - none);
      const milliseconds = (seconds) => ((1000 * seconds) / s.passes).toFixed(2);
      process.stdout.write(
        `${family}, ${model.name}, buckets of ${bucketBytes}: none ${none.toFixed(2)} ms, overlap ${overlap.toFixed(2)}, ` +
          `after ${after.toFixed(2)}; hidden ${(100 * share).toFixed(0)} %; ${s.messages / s.passes} messages a step, ` +
          `${s.hidden / s.passes} come by its end, ${milliseconds(s.sending)} ms in backward, ${milliseconds(s.waiting)} after it\n`,
      );
    }
  }
}

async function main() {
  const network = values.gbits ? openNetwork({ bitsPerSecond: Number(values.gbits) * 1e9 }) : null;
  try {
    for (const mpi of values.mpi ? [values.mpi] : Object.keys(launchers).filter(isInstalled)) {
      const program = [fileURLToPath(import.meta.url), "--rank", ...process.argv.slice(2)];
      const { code, output } = await launch(mpi, 2, program, { network, timeout: 300 });
      process.stdout.write(output);
      if (code !== 0) throw new Error(`${mpi} ended with code ${code}`);
    }
  } finally {
    network?.close();
  }
}

if (values.rank) runRank();
else await main();
