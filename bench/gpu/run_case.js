import { summary, timeInTurns } from "../measure.js";
import { check, removeFiles } from "./check.js";

/** Samples of the device's own clock. */
const KERNEL_SAMPLES = 5;

async function kernelTime(participant, mode, ms, pace) {
  const calls = Math.max(1, Math.round(pace.sample / ms));
  const samples = [];
  for (let i = 0; i < Math.min(KERNEL_SAMPLES, pace.rounds); i++) {
    const found = await participant.ask("kernel", { mode, calls });
    if (found.ms === null) return null;
    samples.push(found.ms);
  }
  return summary(samples).ms;
}

/** Times prepared modes of Evenkeel and, where it is there, torch: { [mode]: { [name]: { ms, kernel, ... } or { error } } }. */
async function timeModes(modes, participants, pace) {
  const timings = {};
  for (const mode of modes) {
    timings[mode] = await timeInTurns(participants, mode, pace);
    for (const participant of participants) {
      const timing = timings[mode][participant.name];
      if (timing.ms) timing.kernel = await kernelTime(participant, mode, timing.ms, pace);
    }
  }
  return timings;
}

/** Checks a case, then times its modes. A wrong result is noted and not timed. */
export async function runCase(subject, modes, people, pace, folder) {
  const { ours, torch } = people;
  const { inputs, errors, wrong } = await check(subject, people, folder);
  try {
    if (wrong) return { timings: {}, errors, notes: [wrong], wrong: true };
    const timed = [ours];
    const notes = [];
    if (torch?.about.cuda) {
      try {
        await torch.ask("prepare", { subject, inputs, folder, check: false });
        timed.push(torch);
      } catch (error) {
        notes.push(`${subject.id}: torch: ${error.message}`);
      }
    }
    return { timings: await timeModes(modes, timed, pace), errors, notes, wrong: false };
  } finally {
    for (const participant of [ours, torch]) await participant?.ask("release");
    removeFiles(inputs);
  }
}

/** For each size of operand, the best rate in bytes a second at which the device copies it, by a shader or by its command. */
export async function copyRates(sizes, ours, pace) {
  const rates = {};
  for (const bytes of sizes) {
    await ours.ask("prepare", { subject: { kind: "copy", length: bytes / 4 }, inputs: {}, check: false });
    const rate = {};
    for (const way of ["shader", "command"]) {
      const { evenkeel } = await timeInTurns([ours], way, pace);
      rate[way] = (2 * bytes) / (evenkeel.best / 1e3);
    }
    await ours.ask("release");
    rates[bytes] = { ...rate, best: Math.max(rate.shader, rate.command) };
  }
  return rates;
}
