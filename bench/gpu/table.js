import { geometricMean } from "../measure.js";

const digits = (ms) => (ms < 1 ? ms.toFixed(4) : ms < 100 ? ms.toFixed(2) : ms.toFixed(0));
const marked = (t) => (t?.ms ? `${digits(t.ms)}${t.disturbed ? " ~" : ""}` : "-");
const shown = (value, digitsAfter) => (value === null || value === undefined ? "-" : value.toFixed(digitsAfter));

/** One line of the table. `share` and `torchShare` are the least traffic over what a copy moves in that time. */
export function row({ name, subject, mode }, timing, errors, rates) {
  const { evenkeel: ours, torch = null } = timing;
  const bytes = subject.traffic?.[mode] ?? null;
  const flops = subject.flops?.[mode] ?? null;
  const rate = bytes && rates[subject.bytes].best;
  const share = (ms) => (bytes && ms ? bytes / (ms / 1e3) / rate : null);
  return {
    ...{ name, kind: subject.kind, shape: subject.shape ?? null, dtype: subject.dtype, mode, ours, torch, errors },
    ratio: torch?.ms ? torch.ms / ours.ms : null,
    ...{ least: bytes, bytesPerSecond: bytes && bytes / (ours.ms / 1e3) },
    ...{ flopsPerSecond: flops && flops / (ours.ms / 1e3) },
    ...{ share: share(ours.ms), kernelShare: share(ours.kernel), torchShare: share(torch?.ms) },
  };
}

export const heads = [
  ...["cell", "ours, ms", "kernels, ms", "torch, ms", "torch / ours", "GB/s or GFLOP/s"],
  ...["of copy", "kernels, of copy", "torch, of copy"],
];

export function cellsOf(r) {
  const rate = r.bytesPerSecond ?? r.flopsPerSecond;
  return [
    ...[r.name, marked(r.ours), r.ours.kernel ? digits(r.ours.kernel) : "-", marked(r.torch), shown(r.ratio, 2)],
    ...[rate ? (rate / 1e9).toFixed(1) : "-", shown(r.share, 2), shown(r.kernelShare, 2), shown(r.torchShare, 2)],
  ];
}

const widths = heads.map((head, i) => (i === 0 ? 34 : Math.max(10, head.length + 2)));
export const textLine = (cells) =>
  cells.map((c, i) => (i === 0 ? c.padEnd(widths[i]) : c.padStart(widths[i]))).join("");

/** What was measured on what, line by line. */
export function heading({ machine, device, torch, quick, rates }) {
  const copies = Object.entries(rates).map(
    ([bytes, { shader, command }]) =>
      `${(bytes / 1e6).toFixed(1)} MB: ${(shader / 1e9).toFixed(1)} GB/s by a shader, ${(command / 1e9).toFixed(1)} by the device's command`,
  );
  return [
    `${device.description || device.vendor} (${device.architecture || "unnamed architecture"}; ${device.features.join(", ") || "no optional features"})`,
    ...(device.software
      ? ["This device is software: it computes on the processor, and none of these figures says anything about a GPU."]
      : []),
    ...(quick ? ["Small sizes and few samples (--quick)."] : []),
    torch,
    Object.values(machine).join("; "),
    ...copies.map((line) => `copy of ${line}`),
  ];
}

export const legend =
  "Medians. ~: disturbed, more than 30 % between the quartiles. kernels: by the device's clock, without what queueing calls costs. " +
  "of copy: the least traffic (each operand once) over what the device copies in that time.";

/** By kind against torch, where torch was timed. */
export function summaries(rows) {
  return [...new Set(rows.map(({ kind }) => kind))].flatMap((kind) => {
    const compared = rows.filter((r) => r.kind === kind && r.ratio);
    if (compared.length === 0) return [];
    const ratios = compared.map(({ ratio }) => ratio);
    const worst = compared[ratios.indexOf(Math.min(...ratios))];
    const even = ratios.filter((r) => r >= 1).length;
    return [
      `${kind}: ${even} of ${ratios.length} cells at 1.0x of torch's speed or above, geometric mean ` +
        `${geometricMean(ratios).toFixed(2)}x, worst ${worst.ratio.toFixed(2)}x (${worst.name})`,
    ];
  });
}

export function markdown(results) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const table = [line(heads), line(heads.map((_, i) => (i ? "---:" : "---")))];
  return [
    "# One run of the GPU bench",
    heading(results)
      .map((text) => `- ${text}`)
      .join("\n"),
    legend,
    [...table, ...results.rows.map((r) => line(cellsOf(r)))].join("\n"),
    ...summaries(results.rows),
    results.notes.map((note) => `- ${note}`).join("\n"),
  ]
    .filter(Boolean)
    .join("\n\n")
    .concat("\n");
}
