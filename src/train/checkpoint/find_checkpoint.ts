import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { FileError, FormatError } from "../../base/errors.js";
import { fileReason, readWhole } from "../../io/files/atomic_file.js";
import { type CheckpointContent, contentOf, damageOf } from "./format.js";
import { keptPath, keptSteps, withoutStep } from "./kept.js";

export interface FoundCheckpoint {
  readonly path: string;
  /** Optimizer steps that were done when it was written; null in a checkpoint that no Trainer wrote. */
  readonly step: number | null;
  /** Newer ones that are damaged, and what is wrong with each. */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * The newest whole checkpoint of the run that writes to `path`: that file, or where it is damaged or missing the one of the
 * latest step among those kept beside it. `path` may also be the folder of one run. Null where no checkpoint is. Each damaged one that
 * is passed over is told of with a warning.
 * Throws FormatError where all are damaged (starting anew over them is for a person to decide) or the newest is of another
 * release; FileError for a folder with checkpoints of several runs.
 */
export function findCheckpoint(path: string): FoundCheckpoint | null {
  const found = newestWhole(path);
  if (!found) return null;
  warnOfSkipped(found);
  const { bytes: _, ...rest } = found;
  return rest;
}

/** The same with its bytes, and without the warnings. */
export function newestWhole(given: string): (FoundCheckpoint & { readonly bytes: Uint8Array }) | null {
  const path = runPath(given);
  if (path === null) return null;
  const skipped: { path: string; reason: string }[] = [];
  for (const candidate of candidates(path)) {
    const read = readUndamaged(candidate);
    if (read instanceof FormatError) {
      skipped.push({ path: candidate, reason: read.message });
      continue;
    }
    return { path: candidate, step: stepOf(contentOf(read, candidate)), skipped, bytes: read };
  }
  if (skipped.length === 0) return null;
  throw new FormatError({
    rule: "To go on, one checkpoint must be whole",
    got: `only damaged ones. ${skipped.map(({ reason }) => reason).join(" ")}`,
    fix: "Put back a copy, or remove them to start anew",
  });
}

export function warnOfSkipped({ path, step, skipped }: FoundCheckpoint): void {
  for (const { path: damaged, reason } of skipped) {
    console.warn(
      `Checkpoint ${damaged} is passed over: ${reason} Taking ${path}${step === null ? "" : ` (step ${step})`}.`,
    );
  }
}

/**
 * `path` itself comes first whatever step it is of: a Trainer writes it before it keeps it, and who copies an older one there
 * wants to go back.
 */
function candidates(path: string): string[] {
  const steps = existsSync(dirname(path)) ? keptSteps(path) : [];
  return [...(existsSync(path) ? [path] : []), ...steps.map((step) => keptPath(path, step))];
}

function readUndamaged(path: string): Uint8Array | FormatError {
  try {
    const bytes = readWhole(path, "A checkpoint");
    return damageOf(bytes, path) ?? bytes;
  } catch (error) {
    // A disk that fails is one more way to be damaged.
    if (error instanceof FormatError) return error;
    throw error;
  }
}

function stepOf({ meta }: CheckpointContent): number | null {
  const step = (meta as { step?: unknown } | null)?.step;
  return typeof step === "number" ? step : null;
}

/** For a folder, the path that the run in it writes to; null where it holds no checkpoint. */
function runPath(given: string): string | null {
  if (!statSync(given, { throwIfNoEntry: false })?.isDirectory()) return given;
  const paths = new Set(
    list(given)
      .filter((name) => extname(name) === ".evk")
      .map((name) => withoutStep(join(given, name))),
  );
  if (paths.size <= 1) return [...paths][0] ?? null;
  throw new FileError({
    rule: "A folder to go on from holds the checkpoints of one run",
    got: `those of ${[...paths].join(", ")}`,
    fix: "Name one of these",
  });
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    throw new FileError({ rule: `The folder ${folder} must be readable`, got: fileReason(error) }, { cause: error });
  }
}
