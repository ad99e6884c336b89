import { OptionError } from "../../base/errors.js";
import type { TensorInfo } from "../tensor_file.js";
import type { Dialect } from "./layouts.js";

/** Frameworks whose names and layouts are known. Evenkeel's are PyTorch's. */
export const frameworks = {
  pytorch: "torch",
  evenkeel: "torch",
  keras: "keras",
  tfjs: "keras",
  flax: "flax",
} as const satisfies Record<string, Dialect>;

export type Framework = keyof typeof frameworks;

export const frameworkNames = Object.keys(frameworks) as Framework[];

/** Formats that one framework alone writes, by TensorFile.format. */
const writers: ReadonlyMap<string, Framework> = new Map([
  ["torch", "pytorch"],
  ["keras", "keras"],
  ["hdf5", "keras"],
  ["h5", "keras"],
  ["tfjs", "tfjs"],
  ["flax", "flax"],
  ["msgpack", "flax"],
]);

/** Names that one framework gives. */
const signs: readonly (readonly [Framework, RegExp])[] = [
  ["flax", /^(params|batch_stats)\/|(^|[/.])(scale|embedding)$/],
  ["keras", /(^|\/)(gamma|beta|moving_mean|moving_variance|embeddings|\w+_kernel|vars\/\d+|\w+:0)$/],
  ["pytorch", /(^|\.)(weight|weight_\w+|running_mean|running_var|num_batches_tracked|in_proj_\w+|original\d?)$/],
];

/** Which framework a file is of. Throws OptionError where its names leave a doubt. */
export function detectFramework(tensors: ReadonlyMap<string, TensorInfo>, format: string | null): Framework {
  const writer = format === null ? undefined : writers.get(format);
  if (writer) return writer;
  const names = [...tensors.keys()];
  const counts = signs.map(([framework, sign]) => ({ framework, count: names.filter((n) => sign.test(n)).length }));
  const found = counts.filter((c) => c.count > 0);
  if (found.length === 1) return found[0]!.framework;
  throw new OptionError({
    rule: `The names of tensors tell which framework wrote them (${frameworkNames.join(", ")})`,
    got:
      found.length === 0
        ? `none that one of them gives: ${few(names)}`
        : `names of ${found.map((f) => f.framework).join(" and ")}`,
    fix: "Name it: `from` (--from)",
  });
}

export const few = (names: readonly string[]): string =>
  `${names.slice(0, 4).join(", ")}${names.length > 4 ? `, and ${names.length - 4} more` : ""}`;
