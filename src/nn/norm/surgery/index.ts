export { type ConvertOptions, convert, type NormKind } from "./convert.js";
export { type ConvertSyncOptions, convertSyncBatchNorm } from "./convert_sync_batch_norm.js";
export { type FoldReport, fold, foldInto } from "./fold.js";
export { freeze, unfreeze } from "./freeze.js";
export { adapt, type UpdatedStatistics, type UpdateStatisticsOptions, updateStatistics } from "./update_statistics.js";
