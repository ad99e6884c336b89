import { noGrad, type Tensor } from "../autograd/index.js";
import { OptionError } from "../base/errors.js";
import { scope } from "../memory/scope.js";
import type { Module } from "../nn/module.js";
import { type BatchSource, type Loss, lossFunction } from "./parts.js";
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
      const done = scope(() =>
        noGrad(() => {
          const next = batches.next();
          if (next.done) return true;
          const { x, y, size } = next.value;
          const output = model.forward(x);
          samples += size;
          lossSum += lossOf(output, y).item() * size;
          const counted = rightAnswers(output, y);
          right = right === null || counted === null ? null : right + counted;
          return false;
        }),
      );
      if (done) break;
      await pause.ifDue();
    }
    if (samples === 0) throw new OptionError({ rule: "Evaluation needs a loader with batches", got: "none" });
    return { loss: lossSum / samples, accuracy: right === null ? null : right / samples, samples };
  });
}

/** How often the largest of the outputs along axis 1 is the label's; null unless y holds whole-number classes. */
function rightAnswers(output: Tensor, y: Tensor): number | null {
  if (y.dtype !== "int32" || output.rank !== 2 || y.rank !== 1) return null;
  const scores = output.dataSync();
  const labels = y.dataSync();
  const classes = output.shape[1]!;
  let right = 0;
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (scores[i * classes + c]! > scores[i * classes + best]!) best = c;
    if (best === labels[i]) right++;
  }
  return right;
}
