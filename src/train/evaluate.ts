import { noGrad } from "../autograd/index.js";
import type { NumberArray } from "../base/dtype.js";
import { OptionError } from "../base/errors.js";
import type { Batch } from "../data/browser.js";
import { scope } from "../memory/scope.js";
import type { Module } from "../nn/module.js";
import { type BatchSource, type Loss, type LossFunction, lossFunction } from "./parts.js";
import { Pause } from "./pause.js";

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

/** Loss and accuracy over all batches of a loader, without gradients. */
export function evaluate(model: Module, loss: Loss, loader: BatchSource): Promise<Evaluation> {
  const lossOf = lossFunction(loss);
  return inEvalMode(model, async () => {
    const pause = new Pause();
    const batches = loader[Symbol.iterator]();
    let samples = 0;
    let lossSum = 0;
    let right: number | null = 0;
    for (;;) {
      const batch = scope(() => noGrad(() => forward(model, lossOf, batches)));
      if (!batch) break;
      const { output, loss, labels, size } = batch;
      samples += size;
      lossSum += (await loss.data())[0]! * size;
      const counted = labels && rightAnswers(await output.data(), labels);
      right = right === null || counted === null ? null : right + counted;
      output.dispose();
      loss.dispose();
      await pause.ifDue();
    }
    if (samples === 0) throw new OptionError({ rule: "Evaluation needs a loader with batches", got: "none" });
    return { loss: lossSum / samples, accuracy: right === null ? null : right / samples, samples };
  });
}

/** The next batch through the model, on its device; null when there is none. */
function forward(model: Module, lossOf: LossFunction, batches: Iterator<Pick<Batch, "x" | "y" | "size">>) {
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
