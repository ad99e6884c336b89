import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkable, makeInputs } from "./cases/all.js";
import { timeInTurns } from "./measure.js";
import { bounds, digest, largestError } from "./verify.js";

/** Evenkeel gave a wrong result: there is nothing to time. */
export class WrongResult extends Error {}

function writeInputs(subject, folder) {
  return Object.fromEntries(
    Object.entries(makeInputs(subject)).map(([name, { shape, data }]) => {
      const file = join(folder, `input.${name}`);
      writeFileSync(file, data);
      return [name, { file, shape }];
    }),
  );
}

async function checkAgainstReference(subject, participants, reference, folder) {
  const part = checkable(subject);
  const request = { subject: part, inputs: writeInputs(part, folder), folder, check: true };
  const expected = await reference.ask("prepare", request);
  await reference.ask("release");
  for (const participant of participants) {
    const { results } = await participant.ask("prepare", request);
    const { error, name } = largestError(results, expected.results);
    // BLAS sums in an order of its own, and is held to the bound of peers.
    const bound = participant.name === "evenkeel" ? bounds[subject.kind] : bounds.peer;
    if (!(error <= bound)) {
      throw new WrongResult(
        `${subject.id}: ${participant.name}'s ${name} is ${error.toExponential(1)} from reference, more than ${bound}`,
      );
    }
  }
}

/** Digests of Evenkeel's results by case: another number of threads must give the same bits. */
const bits = new Map();

function checkBits(subject, results) {
  const now = digest(results);
  if ((bits.get(subject.id) ?? now) !== now) {
    throw new WrongResult(`${subject.id}: evenkeel's results have other bits than with another number of threads`);
  }
  bits.set(subject.id, now);
}

/**
 * Checks a case and times the modes asked for. `participants` has Evenkeel first. Gives { [mode]: { [name]: summary or
 * { error } } }, with `notes` on who could not take part.
 */
export async function runCase(subject, modes, participants, reference, pace, folder) {
  const taking = participants.filter((p) => p.takes(subject.kind));
  const ours = taking.filter((p) => p.name.startsWith("evenkeel"));
  if (subject.kind !== "step" && !bits.has(subject.id)) await checkAgainstReference(subject, ours, reference, folder);

  const inputs = writeInputs(subject, folder);
  const ready = [];
  const apart = new Map();
  const notes = [];
  let expected = null;
  let given = inputs;
  for (const participant of taking) {
    try {
      const answer = await participant.ask("prepare", { subject, inputs: given, folder, check: true });
      if (!expected) {
        checkBits(subject, answer.results);
        expected = answer.results;
        // A training step starts from Evenkeel's parameters and data, which it hands on here.
        given = { ...inputs, ...answer.given };
      } else {
        const { error, name } = largestError(answer.results, expected);
        if (!(error <= bounds.peer)) throw new Error(`its ${name} differs by ${error.toExponential(1)}: not timed`);
      }
      ready.push(participant);
      apart.set(participant.name, answer.includesForward ?? []);
    } catch (error) {
      if (participant.name === "evenkeel") throw error;
      notes.push(`${subject.id}: ${participant.name}: ${error.message}`);
    }
  }
  const timings = {};
  for (const mode of modes) {
    timings[mode] = await timeInTurns(ready, mode, pace);
    const joined = ready.filter((p) => apart.get(p.name).includes(mode) && timings[mode][p.name].ms);
    if (joined.length === 0) continue;
    const forward = timings.forward ?? (await timeInTurns(joined, "forward", pace));
    for (const { name } of joined) {
      if (forward[name]?.ms) timings[mode][name].ms = Math.max(0, timings[mode][name].ms - forward[name].ms);
    }
  }
  for (const participant of ready) await participant.ask("release");
  for (const { file } of Object.values(inputs)) rmSync(file);
  return { timings, notes };
}
