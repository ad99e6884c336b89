import { noGrad } from "../autograd/index.js";
import { type Communicator, loopback } from "../base/communicator.js";
import type { NumberArray } from "../base/dtype.js";
import { OptionError } from "../base/errors.js";
import { onAllRanks } from "../distributed/together.js";
import { scope } from "../memory/scope.js";
import type { Module } from "../nn/module.js";
import { type BatchSource, type Loss, type LossFunction, lossFunction, type SourceBatch } from "./parts.js";
import { Pause } from "./pause.js";
import { isSharded } from "./ranks.js";

export interface Evaluation {
  /** Mean over all samples. */
  readonly loss: number;
  /** Share of samples whose largest output is the label's; null when labels are not whole-number classes. */
  readonly accuracy: number | null;
  readonly samples: number;
}

/** Runs `body` with the whole model in evaluation mode, and gives every module its own mode back. */
export async function inEvalMode<T>(model: Module, body: () => Promise<T>): Promise<T> {
  const modes = model.modules().map((module) => [module, module.training] as const);
  model.eval();
  try {
    return await body();
  } finally {
    for (const [module, training] of modes) module.training = training;
  }
}

/**
 * Loss and accuracy over all batches of a loader, without gradients. With several ranks all call it, and all get the same numbers:
 * a loader made with `shard: communicator` shares the work; with any other each does all of it, and rank 0's numbers count.
 */
export function evaluate(
  model: Module,
  loss: Loss,
  loader: BatchSource,
  communicator: Communicator = loopback,
): Promise<Evaluation> {
  const lossOf = lossFunction(loss);
  return inEvalMode(model, async () => {
    const pause = new Pause();
    const batches = loader[Symbol.iterator]();
    let samples = 0;
    let lossSum = 0;
    // NaN where it cannot be said.
    let right = 0;
    for (;;) {
      const batch = scope(() => noGrad(() => forward(model, lossOf, batches)));
      if (!batch) break;
      const { output, loss, labels, size } = batch;
      if (size > 0) {
        samples += size;
        lossSum += (await loss.data())[0]! * size;
        right += labels ? rightAnswers(await output.data(), labels) : Number.NaN;
      }
      output.dispose();
      loss.dispose();
      await pause.ifDue();
    }
    const sums = Float64Array.of(samples, lossSum, right);
    if (isSharded(loader)) communicator.allReduce(sums, "sum");
    else communicator.broadcast(sums, 0);
    return meansOf(sums);
  });
}

function meansOf([samples = 0, lossSum = 0, right = 0]: Float64Array): Evaluation {
  if (samples === 0) throw onAllRanks(new OptionError({ rule: "Evaluation needs a loader with batches", got: "none" }));
  return { loss: lossSum / samples, accuracy: Number.isNaN(right) ? null : right / samples, samples };
}

/** The next batch through the model, on its device; null when there is none. */
function forward(model: Module, lossOf: LossFunction, batches: Iterator<SourceBatch>) {
  const next = batches.next();
  if (next.done) return null;
  const { x, y, size } = next.value;
  const { device } = model;
  const output = model.forward(x.to(device));
  const classes = y.dtype === "int32" && output.rank === 2 && y.rank === 1;
  return { output, loss: lossOf(output, y.to(device)), labels: classes ? y.dataSync() : null, size };
}

/** How often the largest of a row of scores is the label's. */
function rightAnswers(scores: NumberArray, labels: NumberArray): number {
  const classes = scores.length / labels.length;
  let right = 0;
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (scores[i * classes + c]! > scores[i * classes + best]!) best = c;
    if (best === labels[i]) right++;
  }
  return right;
}
