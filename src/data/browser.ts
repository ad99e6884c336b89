export { Dataset, type DatasetParts, type ImageDataset, type ImageSplits } from "./dataset.js";
export { digits } from "./digits.js";
export { type Batch, DataLoader, type DataLoaderOptions, type DataLoaderState, type Shard } from "./loader.js";
export { type ChannelStatistics, channelStatistics, normalize } from "./normalize.js";
export { type SplitOptions, stratifiedSplit } from "./split.js";
