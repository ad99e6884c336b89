export type * from "../base/events.js";
export type { Callback, TrainerHandle } from "./callback.js";
export {
  type CheckpointParts,
  loadCheckpoint,
  type SaveOptions,
  saveCheckpoint,
  saveCheckpointAsync,
} from "./checkpoint/checkpoint.js";
export { type FoundCheckpoint, findCheckpoint } from "./checkpoint/find_checkpoint.js";
export type { CheckpointOptions } from "./checkpoint/keeper.js";
export type { EarlyStoppingOptions } from "./early_stopping.js";
export { type Evaluation, evaluate } from "./evaluate.js";
export { EventLog } from "./event_log.js";
export type { BatchSource, Loss, TrainerOptimizer, TrainerScheduler } from "./parts.js";
export { Progress, type ProgressOptions } from "./progress/progress.js";
export type { ReportTable } from "./report/html.js";
export { type ReportInput, renderReport } from "./report/report.js";
export { type RunSummary, summarise } from "./summary.js";
export { Trainer, type TrainerOptions, type TrainerResult } from "./trainer.js";
export type { TrainingState } from "./training_state.js";
