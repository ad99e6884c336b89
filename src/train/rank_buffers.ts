import type { Communicator } from "../base/communicator.js";
import type { NumberArray } from "../base/dtype.js";
import type { Shape } from "../base/shape.js";
import { unlikeRankZero } from "../distributed/unlike.js";
import type { Module } from "../nn/module.js";

// Layers with statistics of each rank's own part have other buffers on each rank, and some train by them.

/** Buffers of one rank, by name. */
export type RankBuffers = Readonly<Record<string, { readonly shape: Shape; readonly data: NumberArray }>>;

/**
 * For each rank from 1 on its numbers in the buffers that are not the same on all ranks; empty where all are. Collective: one small
 * message, and one for each such buffer.
 */
export function buffersOfOthers(communicator: Communicator, model: Module): RankBuffers[] {
  if (communicator.size === 1) return [];
  const named = model.namedBuffers();
  const unlike = new Set(unlikeRankZero(communicator, named).flat());
  if (unlike.size === 0) return [];
  const gathered = named
    .filter(([name]) => unlike.has(name))
    .map(([name, { shape, storage }]) => ({
      name,
      shape,
      all: communicator.allGather(storage.view, { equalLengths: true }),
    }));
  return Array.from({ length: communicator.size - 1 }, (_, i) =>
    Object.fromEntries(gathered.map(({ name, shape, all }) => [name, { shape, data: all[i + 1]! }])),
  );
}
