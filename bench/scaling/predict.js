import { fitLines, messagesOf } from "./fit.js";
import { memory, messageTime, stepTime } from "./model.js";

/** What predictions assume of networks: nobody else's traffic, one rank a node, and these figures of a message. */
export const networks = [
  { name: "10 Gbit/s, TCP", latency: 30e-6, perMessage: 5e-6, bytesPerSecond: 0.94 * 1.25e9 },
  { name: "100 Gbit/s, RDMA", latency: 3e-6, perMessage: 0.5e-6, bytesPerSecond: 0.95 * 12.5e9 },
];

export const rankCounts = [8, 32, 128, 512, 1024];

/**
 * Layers of ResNet-50 by channels: its stem, then for each stage three convolutions a block and the shortcut of the first.
 *
 * @type {readonly number[]}
 */
export const resnet50Channels = [
  64,
  ...[
    [64, 256, 3],
    [128, 512, 4],
    [256, 1024, 6],
    [512, 2048, 3],
  ].flatMap(([inner, outer, blocks]) => [outer, ...Array.from({ length: blocks }, () => [inner, inner, outer]).flat()]),
];

/** Share of the computing time that is backward, behind which gradients' messages can be hidden. */
export const HIDDEN = 0.6;

/** Ranks of a group where statistics stay within a node. */
export const NODE_RANKS = 8;

const find = (measured, mpi, ranks, link = undefined) =>
  measured.runs.find((r) => r.mpi === mpi && r.ranks === ranks && r.link?.name === link);

/** The models that predictions are made for: those that were timed, on a core; and one of ResNet-50's size at two speeds of computing. */
export function subjects(measured) {
  const { steps = [] } = find(measured, "openmpi", 2);
  const timed = steps.map(({ model, batch, parameters, channels, times }) => ({
    ...{ name: `${model}, batch ${batch}`, parameters, channels, compute: times.alone.ms / 1000 },
  }));
  const large = { parameters: 25.6e6, channels: resnet50Channels };
  return [
    ...timed,
    { ...large, name: "ResNet-50, 1 s a step", compute: 1 },
    { ...large, name: "ResNet-50, 0.1 s a step", compute: 0.1 },
  ];
}

export const linesOf = (measured, mpi) => fitLines(find(measured, mpi, 2));

/** What a message's way through TCP costs on this machine: what the smallest take longer over the fastest link without a delay than in memory. */
function tcpLatency({ runs }, mpi) {
  const own = runs.filter((r) => r.mpi === mpi && r.ranks === 2 && r.messages);
  const links = own.filter(({ link }) => link && link.delay === 0);
  const [fastest] = links.sort((a, b) => b.link.bitsPerSecond - a.link.bitsPerSecond);
  const smallest = (run) => Math.min(...messagesOf(run).map(({ seconds }) => seconds));
  return fastest ? Math.max(0, smallest(fastest) - smallest(own.find(({ link }) => !link))) : 0;
}

/** The network that a measured run went over, for the model: its rate and delay as they were set, and no figure fitted to it but TCP's latency. */
export function networkOf(measured, { mpi, link }) {
  if (!link) return memory;
  const latency = tcpLatency(measured, mpi) + link.delay;
  return { name: link.name, latency, perMessage: 0, bytesPerSecond: link.bitsPerSecond / 8 };
}

/** Measured and predicted messages of a run. */
export function checkMessages(measured, run) {
  const on = { lines: linesOf(measured, run.mpi), network: networkOf(measured, run) };
  return messagesOf(run).map((m) => ({ ...m, predicted: messageTime(m.kind, m.bytes, m.ranks, on) }));
}

/**
 * Measured and predicted weak steps of a run. Computing is what the ranks take in step without messages, in the same run; the messages come
 * from the fit.
 */
export function checkSteps(measured, run) {
  const on = { lines: linesOf(measured, run.mpi), network: networkOf(measured, run) };
  return run.steps.flatMap(({ model, parameters, channels, times }) => {
    const compute = times["in step"].ms / 1000;
    const ways = [
      { name: "sent after backward", time: times["weak, sent after"], predicted: { parameters } },
      { name: "sent during it", time: times.weak, predicted: { parameters }, hidden: HIDDEN },
      {
        name: "and SyncBatchNorm",
        time: times["weak synchronized"],
        predicted: { parameters, channels },
        hidden: HIDDEN,
      },
    ];
    return ways
      .filter(({ time }) => time)
      .map(({ name, time, predicted, hidden = 0 }) => {
        const { seconds } = stepTime({ compute, ...predicted }, run.ranks, { ...on, hidden });
        return { model: `${model}, ${name}`, measured: time.ms / 1000, predicted: seconds };
      });
  });
}

/** Steps on many ranks: without and with hiding, with "library" sums, and what synchronized normalization adds across all ranks and within nodes. */
export function predictStep(subject, ranks, { lines, network }) {
  const plain = { ...subject, channels: [] };
  const on = { lines, network };
  const within = { lines, network: memory, ranks: NODE_RANKS };
  const after = stepTime(plain, ranks, on);
  return {
    ordered: after,
    library: stepTime(plain, ranks, { ...on, sums: "library" }),
    hidden: stepTime(plain, ranks, { ...on, hidden: HIDDEN }),
    hiddenLibrary: stepTime(plain, ranks, { ...on, hidden: HIDDEN, sums: "library" }),
    acrossAll: stepTime(subject, ranks, on).synchronization,
    withinNode: stepTime(subject, ranks, { ...on, statistics: within }).synchronization,
  };
}
