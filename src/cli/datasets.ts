import type { ImageSplits } from "../data/index.js";
import { channelStatistics, cifar10, digits, mnist, normalize } from "../data/index.js";
import { UsageError } from "./usage_error.js";

export const dataNames = ["digits", "mnist", "cifar10"] as const;
export type DataName = (typeof dataNames)[number];

/**
 * Loads a dataset, its channels centred and scaled by the training part's statistics. Throws UsageError when a folder
 * is needed and none is given, FormatError when its files are missing or damaged.
 */
export function loadData(name: DataName, folder: string | undefined): ImageSplits {
  if (name === "digits") return standardised(digits());
  if (folder === undefined) {
    throw new UsageError(`--data ${name} needs --data-dir, the folder that holds its files.`);
  }
  return standardised(name === "mnist" ? mnist(folder) : cifar10(folder));
}

function standardised(splits: ImageSplits): ImageSplits {
  const statistics = channelStatistics(splits.train);
  return { ...splits, train: normalize(splits.train, statistics), test: normalize(splits.test, statistics) };
}
