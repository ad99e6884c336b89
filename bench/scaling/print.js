const digits = (ms) => (ms < 0.1 ? ms.toFixed(4) : ms < 10 ? ms.toFixed(3) : ms.toFixed(1));
const time = (t) => `${digits(t.ms)}${t.disturbed ? "~" : ""}`;
const line = (cells) => console.log(cells.map((cell, i) => `${cell}`[i ? "padStart" : "padEnd"](i ? 16 : 18)).join(""));
export const bytesOf = (n) => (n < 1024 ? `${n} B` : n < 2 ** 20 ? `${n / 1024} KiB` : `${n / 2 ** 20} MiB`);

/**
 * Of a weak step with all ranks together: its efficiency against one rank alone; the ceiling, which is that of ranks that do not speak
 * to each other; and where the rest goes: to what cores share, to waiting for the slowest in each step, to messages.
 */
export function sharesOf({ alone, beside, "in step": inStep, weak }) {
  const [ceiling, waiting, efficiency] = [beside, inStep, weak].map(({ ms }) => alone.ms / ms);
  return { efficiency, ceiling, machine: 1 - ceiling, waiting: ceiling - waiting, messages: waiting - efficiency };
}

const share = (v) => `${(100 * v).toFixed(1)} %`;

/** Milliseconds, medians; ~ marks what was disturbed (more than 30 % between the quartiles). */
export function printRun({ mpi, ranks, link, oversubscribed, version, messages, synchronization, steps }) {
  const where = link ? `two namespaces, ${link.name}` : "one machine";
  console.log(
    `\n== ${version} (${mpi}), ${ranks} ranks, ${where}${oversubscribed ? ", more ranks than cores" : ""}; ms`,
  );
  if (messages) {
    line(["all-reduce", "ordered", "library", "raw blocking", "ordered / raw"]);
    for (const { bytes, ordered, library, raw } of messages)
      line([bytesOf(bytes), time(ordered), time(library), time(raw), (ordered.ms / raw.ms).toFixed(2)]);
    line(["normalization", "gather", "lengths unknown", "sums"]);
    for (const { channels, gather, sums, ...s } of synchronization)
      line([`${channels} channels`, time(gather), time(s["gather of unknown lengths"]), time(sums)]);
  }
  if (!steps) return;
  for (const { model, batch, times } of steps) {
    const { efficiency, ceiling, ...lost } = sharesOf(times);
    console.log(`${model}, batch ${batch}`);
    for (const [name, t] of Object.entries(times)) line([`  ${name}`, time(t)]);
    line(["  weak efficiency", share(efficiency), `ceiling ${share(ceiling)}`]);
    line(["  lost to", ...Object.entries(lost).map(([name, v]) => `${name} ${share(v)}`)]);
    line(["  strong speed-up", (times.alone.ms / times.strong.ms).toFixed(2)]);
    const synchronized = times["weak synchronized"];
    if (synchronized) line(["  synchronizing", share(1 - times.weak.ms / synchronized.ms), "of the step"]);
  }
}
