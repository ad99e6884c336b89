import { describeValue, OptionError } from "../base/errors.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { sameShape } from "../base/shape.js";
import { scope } from "../memory/scope.js";
import { Module } from "../nn/module.js";
import { elementTypes } from "./elements.js";
import type { FileTensor, TensorFile } from "./tensor_file.js";

/** Tensors are read until they have so many bytes, and then loaded together. */
const BATCH = 2 ** 26;

/**
 * Loads a module from an open file, a few tensors at a time: for models whose files do not fit into memory beside them. With `strict`
 * (default) every name must match; names and shapes are all checked before anything is changed. The file stays open.
 * Throws FormatError as `loadStateDict` does; where the numbers of a tensor are damaged, those before it are loaded.
 */
export async function loadInto(module: Module, file: TensorFile, options?: { strict?: boolean }): Promise<void> {
  const { strict } = readOptions("loadInto", options, { strict: true });
  checkBoolean("strict", strict);
  if (!(module instanceof Module)) {
    throw new OptionError({ rule: "loadInto takes a module first, then an open file", got: describeValue(module) });
  }
  const targets = scope(() => new Map(Object.entries(module.stateDict()).map(([name, t]) => [name, t.shape])));
  const known = [...file.tensors].filter(([name]) => targets.has(name));
  const complete = known.length === targets.size && known.length === file.tensors.size;
  if ((strict && !complete) || known.some(([name, { shape }]) => !sameShape(shape, targets.get(name)!))) {
    // Without numbers it finds the same, and says so before it would miss them.
    module.loadStateDict(new Map([...file.tensors].map(([name, { shape }]) => [name, { shape, data: [] }])), {
      strict,
    });
  }
  let batch = new Map<string, FileTensor>();
  let bytes = 0;
  const flush = (): void => {
    module.loadStateDict(batch, { strict: false });
    batch = new Map();
    bytes = 0;
  };
  for (const [name, { shape, type }] of known) {
    const size = elementTypes[type].bytes * shape.reduce((n, d) => n * d, 1);
    if (batch.size > 0 && bytes + size > BATCH) flush();
    batch.set(name, await file.read(name));
    bytes += size;
  }
  flush();
}
