export { Adam, type AdamOptions, AdamW } from "./adam.js";
export { clipGradNorm, clipGradNormAsync, scaleGradients } from "./clip.js";
export { weightDecayGroups } from "./groups.js";
export { Optimizer, type OptimizerState, type ParameterGroup } from "./optimizer.js";
export { RMSprop, type RmspropOptions } from "./rmsprop.js";
export { CosineWarmup, ReduceLROnPlateau, type ScheduleState, StepLR } from "./schedules.js";
export { SGD, type SgdOptions } from "./sgd.js";
