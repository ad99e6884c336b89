import { FormatError } from "../../base/errors.js";
import { globalRandom, type RandomState } from "../../base/random.js";
import { type FileSystem, readWhole, writeAtomically } from "../../io/files/atomic_file.js";
import { scope } from "../../memory/scope.js";
import type { Module, StateDict } from "../../nn/module.js";
import type { BatchSource, TrainerOptimizer, TrainerScheduler } from "../parts.js";
import { decodeCheckpoint, encodeCheckpoint } from "./format.js";
import { pack, packAsync, unpack } from "./pack.js";

/** Writes any state that `pack` takes; returns the size of the file. */
export function writeState(path: string, state: unknown, files?: FileSystem): number {
  return writeAtomically(path, encodeCheckpoint(pack(state)), files);
}

/** The bytes of a state on any device, in pieces: its numbers are taken now, and there once they are waited for. */
export async function encodeState(state: unknown): Promise<Uint8Array[]> {
  return encodeCheckpoint(await packAsync(state));
}

/** Reads what writeState wrote; its tensors belong to the scope that is open. */
export function readState(path: string): Record<string, unknown> {
  return stateIn(readWhole(path, "A checkpoint"), path);
}

/** The same from the file's bytes. */
export function stateIn(bytes: Uint8Array, path: string): Record<string, unknown> {
  const state = unpack(decodeCheckpoint(bytes, path));
  if (state !== null && typeof state === "object" && !Array.isArray(state)) return state as Record<string, unknown>;
  throw new FormatError({ rule: "A checkpoint holds an object", got: `${path} with ${typeof state}` });
}

export interface CheckpointParts {
  readonly model: Module;
  readonly optimizer?: TrainerOptimizer;
  readonly scheduler?: TrainerScheduler;
  readonly loader?: BatchSource;
}

export interface SaveOptions extends CheckpointParts {
  /** Anything else to keep: plain data, tensors and typed arrays. */
  readonly extra?: unknown;
}

/**
 * Saves a model, what trains it, and the state of the random generator in one file, which is there whole or not at all.
 * For loops of your own; a Trainer saves by itself. Throws FileError when the file cannot be written: what was at `path`
 * is then unchanged; DeviceError for a model on another device than the CPU, which saveCheckpointAsync saves.
 */
export function saveCheckpoint(path: string, parts: SaveOptions): void {
  scope(() => {
    writeState(path, stateOf(parts));
  });
}

/** The same for a model on any device: its numbers as they are now, whatever the model does while they are waited for. */
export async function saveCheckpointAsync(path: string, parts: SaveOptions): Promise<void> {
  const { pieces } = scope(() => ({ pieces: encodeState(stateOf(parts)) }));
  writeAtomically(path, await pieces);
}

const stateOf = ({ model, optimizer, scheduler, loader, extra }: SaveOptions) => ({
  model: model.stateDict(),
  optimizer: optimizer?.stateDict() ?? null,
  scheduler: scheduler?.stateDict() ?? null,
  loader: loader?.state ?? null,
  random: globalRandom.state,
  extra: extra ?? null,
});

/**
 * Loads a checkpoint, also one of a Trainer, into the parts that are given, and returns its `extra`. With an optimizer
 * the random generator takes up its state too: training then goes on as if it had not been cut.
 * The numbers go to where the parts are. Throws FormatError when the file is missing, damaged, or of another model; for the latter it names every difference.
 */
export function loadCheckpoint(path: string, { model, optimizer, scheduler, loader }: CheckpointParts): unknown {
  return scope(() => {
    const saved = readState(path);
    const part = (name: string): unknown => {
      if (typeof saved[name] === "object" && saved[name] !== null) return saved[name];
      throw new FormatError({
        rule: `To load the ${name}, a checkpoint must hold one`,
        got: `${path}, which holds ${Object.keys(saved)
          .filter((key) => saved[key] !== null)
          .join(", ")}`,
      });
    };
    model.loadStateDict(part("model") as StateDict);
    optimizer?.loadStateDict(part("optimizer") as never);
    scheduler?.loadStateDict(part("scheduler") as never);
    if (loader) loader.state = part("loader") as BatchSource["state"];
    if (optimizer) globalRandom.state = part("random") as RandomState;
    return saved.extra ?? null;
  });
}
