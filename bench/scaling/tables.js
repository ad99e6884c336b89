import { messageTime } from "./model.js";
import { checkMessages, checkSteps, linesOf, networks, predictStep, rankCounts, subjects } from "./predict.js";
import { bytesOf, sharesOf } from "./print.js";

const row = (cells) => `| ${cells.join(" | ")} |`;
const table = (head, rows) => [row(head), row(head.map((_, i) => (i ? "---:" : "---"))), ...rows.map(row)].join("\n");

const digits = (v) =>
  v === 0 ? "0" : v < 0.0995 ? v.toPrecision(2) : v < 9.95 ? v.toFixed(2) : v < 99.5 ? v.toFixed(1) : v.toFixed(0);
const ms = (seconds) => digits(seconds * 1000);
const timed = (t) => `${digits(t.ms)}${t.disturbed ? "~" : ""}`;
const share = (v) => `${(100 * v).toFixed(v < 0.0995 ? 1 : 0)} %`;
const signed = (v) => `${v < 0 ? "-" : "+"}${Math.abs(100 * v).toFixed(0)} %`;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const whereOf = ({ ranks, link, oversubscribed, version }) =>
  `${version}, ${ranks} ranks${link ? `, ${link.name}` : ""}${oversubscribed ? " (more than cores)" : ""}`;

/** The measured all-reduces: milliseconds of each way of adding up, for every run. */
function messages({ runs }) {
  const shown = runs.filter((r) => r.messages && r.ranks === 2);
  return shown
    .map((run) => {
      const rows = run.messages.map(({ bytes, ordered, library, raw }) => [
        bytesOf(bytes),
        timed(ordered),
        timed(library),
        timed(raw),
        (ordered.ms / library.ms).toFixed(2),
      ]);
      return `${whereOf(run)}, ms:\n\n${table(["bytes", "ordered", "library", "MPI_Allreduce", "ordered / library"], rows)}`;
    })
    .join("\n\n");
}

/** Weak and strong steps, and what they lose to what. */
function steps({ runs }) {
  const rows = runs
    .filter((r) => r.steps)
    .flatMap((run) =>
      run.steps.map(({ model, batch, times }) => {
        const { efficiency, machine, waiting, messages: lost } = sharesOf(times);
        const sync = times["weak synchronized"];
        return [
          ...[
            whereOf(run),
            `${model}, ${batch}`,
            timed(times.alone),
            timed(times.beside),
            timed(times.weak),
            timed(times["weak, sent after"]),
          ],
          ...[share(efficiency), share(machine), share(waiting), share(lost)],
          (times.alone.ms / times.strong.ms).toFixed(2),
          sync ? share(1 - times.weak.ms / sync.ms) : "",
        ];
      }),
    );
  const head = [
    "job",
    "model, batch a rank",
    "one rank, ms",
    "ranks beside each other",
    "together",
    "sent after backward",
    "weak efficiency",
    "lost to shared cores",
    "to waiting",
    "to messages",
    "strong speed-up",
    "SyncBatchNorm's share",
  ];
  return table(head, rows);
}

function fit(measured) {
  const fitted = measured.runs.filter((r) => r.messages && r.ranks === 2 && !r.link);
  const rows = fitted.flatMap(({ mpi }) =>
    Object.entries(linesOf(measured, mpi)).map(([name, { call, perByte, points, errors }]) => [
      ...[`${mpi}: ${name}`, (call * 1e6).toFixed(1), (perByte * 1e9).toFixed(3), `${points}`],
      ...[share(median(errors.map(Math.abs))), signed(errors.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a)))],
    ]),
  );
  return table(["line", "a call, µs", "a byte, ns", "sizes", "median residual", "largest"], rows);
}

/** How far the model is from what was measured over links and with more ranks, none of which it was fitted to. */
function checks(measured) {
  const others = measured.runs.filter((r) => r.messages && (r.link || r.ranks > 2));
  const rows = others.map((run) => {
    const found = checkMessages(measured, run);
    const of = (least, most) => {
      const errors = found
        .filter(({ bytes }) => bytes >= least && bytes < most)
        .map((m) => m.predicted / m.seconds - 1);
      return `${signed(median(errors))} (${signed(Math.min(...errors))} to ${signed(Math.max(...errors))})`;
    };
    return [whereOf(run), of(0, 4096), of(4096, 2 ** 18), of(2 ** 18, Infinity)];
  });
  const stepRows = measured.runs
    .filter((r) => r.steps && r.messages)
    .flatMap((run) =>
      checkSteps(measured, run).map((s) => [
        ...[whereOf(run), s.model, ms(s.measured), ms(s.predicted), signed(s.predicted / s.measured - 1)],
      ]),
    );
  return [
    "Messages, predicted against measured: the median of all kinds and sizes, and from the least to the largest.",
    table(["job", "below 4 KiB", "4 to 256 KiB", "256 KiB and more"], rows),
    "Weak steps:",
    table(["job", "model", "measured, ms", "predicted, ms", "predicted / measured"], stepRows),
  ].join("\n\n");
}

function predictions(measured) {
  const lines = linesOf(measured, "openmpi");
  return networks
    .map((network) => {
      const rows = subjects(measured).flatMap((subject) =>
        rankCounts.map((ranks) => {
          const { ordered, library, hidden, hiddenLibrary, acrossAll, withinNode } = predictStep(subject, ranks, {
            lines,
            network,
          });
          const efficiency = (s) => share(subject.compute / s.seconds);
          const synchronized = subject.channels.length > 0;
          const part = (seconds) =>
            synchronized ? `${ms(seconds)} (${share(seconds / (hiddenLibrary.seconds + seconds))})` : "";
          return [
            ...[subject.name, `${ranks}`, ms(subject.compute), ms(ordered.gradients), ms(library.gradients)],
            ...[efficiency(ordered), efficiency(hidden), efficiency(hiddenLibrary), part(acrossAll), part(withinNode)],
          ];
        }),
      );
      const head = [
        "model",
        "ranks",
        "computing, ms",
        "gradients, ordered, ms",
        "library, ms",
        "efficiency",
        "with hiding",
        "library, with hiding",
        "SyncBatchNorm of all, ms (share)",
        "of groups of 8, ms (share)",
      ];
      return `${network.name}: latency ${network.latency * 1e6} µs, ${network.perMessage * 1e6} µs of the processor a message, ${(network.bytesPerSecond / 1.25e8).toFixed(1)} Gbit/s.\n\n${table(head, rows)}`;
    })
    .join("\n\n");
}

/** Where ordered sums cost more than the library's: the ratio by bytes and ranks. */
function orders(measured) {
  const lines = linesOf(measured, "openmpi");
  const sizes = [8, 1024, 16384, 2 ** 18, 2 ** 20, 2 ** 24, 2 ** 27];
  const rows = networks.flatMap((network) =>
    rankCounts.map((ranks) => {
      const on = { lines, network };
      const ratio = (bytes) => messageTime("ordered", bytes, ranks, on) / messageTime("library", bytes, ranks, on);
      return [network.name, `${ranks}`, ...sizes.map((bytes) => ratio(bytes).toFixed(1))];
    }),
  );
  return `Time of "ordered" over that of "library" for one message, by its bytes:\n\n${table(["network", "ranks", ...sizes.map(bytesOf)], rows)}`;
}

const parts = { messages, steps, fit, checks, predictions, orders };

export const markers = (name) => [`<!-- ${name} -->\n`, `<!-- end of ${name} -->`];

/** The page with each marked block as the model gives it from what was measured. */
export function fillPage(page, measured) {
  let filled = page;
  for (const [name, make] of Object.entries(parts)) {
    const [begin, end] = markers(name);
    const [from, to] = [filled.indexOf(begin) + begin.length, filled.indexOf(end)];
    if (from < begin.length || to < from) throw new Error(`the page has no block ${begin.trim()}`);
    filled = `${filled.slice(0, from)}\n${make(measured)}\n\n${filled.slice(to)}`;
  }
  return filled;
}
