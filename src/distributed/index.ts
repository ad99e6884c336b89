// The public names of `evenkeel/distributed`.
export {
  type Combination,
  type Communicator,
  type Elements,
  type GatherOptions,
  loopback,
  type Numbers,
} from "../base/communicator.js";
export type { Pending } from "../base/pending.js";
export { broadcastState, checkAlike, sumGradients } from "./copies.js";
export { DistributedDataParallel, type DistributedDataParallelOptions } from "./distributed_data_parallel.js";
export { finalizeDistributed } from "./finalize.js";
export { GradientReducer, type GradientReducerOptions, type ReducerStatistics } from "./gradient_reducer.js";
export { type DistributedOptions, initDistributed } from "./init.js";
export { abortGroup, type GroupDescription, type GroupOptions, joinGroup, sharedGroup } from "./shared_group.js";
export { checkSameParameters } from "./unlike.js";
