// evenkeel/train in a browser: no files, no terminal, no signals.
export type * from "../base/events.js";
export type { Callback, TrainerHandle } from "./callback.js";
export type { EarlyStoppingOptions } from "./early_stopping.js";
export { type Evaluation, evaluate } from "./evaluate.js";
export { EventLog } from "./event_log.js";
export type { LoopOptions as TrainerOptions } from "./loop_options.js";
export type { BatchSource, Loss, TrainerOptimizer, TrainerScheduler } from "./parts.js";
export { type RunSummary, summarise } from "./summary.js";
export { TrainingLoop as Trainer, type TrainingResult as TrainerResult } from "./training_loop.js";
export type { TrainingState } from "./training_state.js";
