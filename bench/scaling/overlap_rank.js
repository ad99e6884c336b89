// The program of a rank: times each model's steps in all ways, and rank 0 prints them.
import { GradientReducer, initDistributed, sumGradients } from "../../dist/distributed/index.js";
import { F, manualSeed, nn, randn, scope, setThreads, tensor } from "../../dist/index.js";
import { models } from "./models.js";
import { timeInTurns } from "./turns.js";

const task = JSON.parse(process.argv[2]);

/**
 * Milliseconds of a step with messages during backward, with one after it, with a barrier there (what waiting for the other rank
 * takes, whatever is sent), and with neither; and what a reducer counted.
 */
function timeModel({ build, batch, inner, optimizer: optimizerOf }, communicator, buckets, pace) {
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
  const reducers = buckets.map(
    (bytes) =>
      new GradientReducer(communicator, parameters, {
        gradients: "sum",
        ...(bytes === "usual" ? {} : { bucketBytes: Number(bytes) }),
      }),
  );
  /** A step in which only this reducer sends, or none. */
  const by = (sending, then) =>
    reducers
      .filter((r) => r !== sending)
      .reduce(
        (body, r) => () => r.noSync(body),
        () => step(then),
      )();
  const ways = {
    none: { body: () => by(null) },
    barrier: { body: () => by(null, () => communicator.barrier()) },
    after: { body: () => by(null, () => sumGradients(communicator, parameters)) },
    ...Object.fromEntries(reducers.map((r, i) => [buckets[i], { body: () => by(r) }])),
  };
  const times = timeInTurns(communicator, ways, pace);
  const rows = reducers.map((r, i) => ({
    bytes: buckets[i],
    during: times[buckets[i]].ms,
    statistics: r.statistics,
  }));
  for (const r of reducers) r.close();
  return { none: times.none.ms, barrier: times.barrier.ms, after: times.after.ms, rows };
}

setThreads(1);
const communicator = initDistributed({ timeout: 50 });
const family = process.env.OMPI_COMM_WORLD_SIZE ? "Open MPI" : "MPICH";
const chosen = models.filter(({ name }) => task.models.includes(name));
for (const model of chosen) {
  const { none, barrier, after, rows } = timeModel(model, communicator, task.buckets, task.pace);
  if (communicator.rank > 0) continue;
  const text = (ms) => ms.toFixed(2);
  process.stdout.write(
    `${family}, ${model.name}: not sent ${text(none)} ms, a barrier ${text(barrier)}, sent after backward ${text(after)}\n`,
  );
  for (const { bytes, during, statistics: s } of rows) {
    const share = (without) => `${((100 * (after - during)) / (after - without)).toFixed(0)} %`;
    const perPass = (count) => (count / s.passes).toFixed(1);
    process.stdout.write(
      `  buckets of ${bytes === "usual" ? "the usual size" : bytes}: sent during it ${text(during)} ms; hidden ${share(barrier)} of the message, ` +
        `${share(none)} with waiting for the other rank; ${perPass(s.messages)} messages, ${perPass(s.hidden)} come by ` +
        `backward's end, ${perPass(1000 * s.sending)} ms in it, ${perPass(1000 * s.waiting)} after it\n`,
    );
  }
}
