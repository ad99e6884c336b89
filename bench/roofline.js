import { timeInTurns } from "./measure.js";

/**
 * The copy roofline: for each size of operand among the cells, the best rate in bytes a second at which any of these
 * libraries, in its best sample, reads it once and writes it once, in this very run and with its threads. Keyed by
 * bytes of one operand.
 */
export async function rooflines(participants, chosen, pace) {
  const operands = new Set(
    chosen.filter(({ subject }) => subject.traffic).map(({ subject }) => subject.traffic.eval / 2),
  );
  const copiers = participants.filter((p) => p.name === "evenkeel" || p.name === "torch");
  const found = {};
  for (const bytes of operands) {
    const subject = { kind: "copy", length: bytes / 4 };
    for (const p of copiers) await p.ask("prepare", { subject, inputs: {}, check: false });
    const timings = await timeInTurns(copiers, "forward", pace);
    for (const p of copiers) await p.ask("release");
    const rates = copiers.map((p) => (2 * bytes) / (timings[p.name].best / 1e3));
    found[bytes] = { rate: Math.max(...rates), by: copiers[rates.indexOf(Math.max(...rates))].name };
  }
  return found;
}
