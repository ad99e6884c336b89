import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeGpuInputs } from "../cases/gpu.js";
import { largestError } from "../verify.js";

/**
 * How far results may be from float64, relative to the largest value: for normalization the sums of its gradients decide, of
 * hundreds of thousands of values each; for products float32 sums of thousands of terms.
 */
const bounds = { norm: 1e-5, elements: 1e-5, matmul: 1e-5, conv: 1e-5, step: 1e-3 };

/** How many numbers the plain float64 loops of reference compute in seconds. */
const MOST_NUMBERS = 1 << 22;

/** The same case on as few images or rows as reference can compute. Statistics of a batch are then of fewer values. */
function smaller(subject) {
  if (subject.kind === "matmul") {
    const m = Math.min(subject.m, Math.max(1, Math.floor(MOST_NUMBERS / subject.k / 8)));
    return { ...subject, m, a: [m, subject.k] };
  }
  if (!subject.shape) return subject;
  const each = subject.shape.slice(1).reduce((a, b) => a * b, 1);
  const batch = Math.max(2, Math.min(subject.shape[0], Math.floor(MOST_NUMBERS / each)));
  const cut = [batch, ...subject.shape.slice(1)];
  const view = subject.view && [batch * (subject.view[0] / subject.shape[0]), ...subject.view.slice(1)];
  return { ...subject, shape: cut, ...(view ? { view } : {}) };
}

export function writeInputs(subject, folder) {
  return Object.fromEntries(
    Object.entries(makeGpuInputs(subject)).map(([name, { shape, data }]) => {
      const file = join(folder, `input.${name}`);
      writeFileSync(file, data);
      return [name, { file, shape }];
    }),
  );
}

export function removeFiles(places) {
  for (const { file } of Object.values(places)) rmSync(file, { force: true });
}

/** Where torch is: the whole case, ours and torch's own, against torch in float64. */
async function byTorch(subject, inputs, ours, torch, folder) {
  const { results, given } = await ours.ask("prepare", { subject, inputs, folder, check: true });
  const all = { ...inputs, ...given };
  try {
    const errors = await torch.ask("compare", { subject, inputs: all, results });
    return { inputs: all, errors: { ours: errors.given, torch: errors.own } };
  } finally {
    removeFiles(results);
  }
}

/** Elsewhere: a part of it against Evenkeel's own float64 loops on the CPU. */
async function byReference(subject, ours, reference, folder) {
  const part = smaller(subject);
  const request = { subject: part, inputs: writeInputs(part, folder), folder, check: true };
  const { results, given } = await ours.ask("prepare", request);
  const expected = await reference.ask("prepare", request);
  await reference.ask("release");
  const errors = { ours: largestError(results, expected.results) };
  for (const places of [results, expected.results, request.inputs, given]) removeFiles(places);
  return errors;
}

/** Checks a case, and leaves `ours` prepared for it: { inputs, errors, wrong }, the last a line or null. */
export async function check(subject, { ours, torch, reference }, folder) {
  let inputs = writeInputs(subject, folder);
  let errors;
  if (torch) {
    ({ inputs, errors } = await byTorch(subject, inputs, ours, torch, folder));
  } else {
    errors = await byReference(subject, ours, reference, folder);
    inputs = writeInputs(subject, folder);
    await ours.ask("prepare", { subject, inputs, folder, check: false });
  }
  const bound = bounds[subject.kind];
  const { error, name } = errors.ours;
  const wrong = error <= bound ? null : `${subject.id}: evenkeel's ${name} is ${error.toExponential(1)} from float64`;
  return { inputs, errors, wrong };
}
