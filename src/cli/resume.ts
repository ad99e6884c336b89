import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { FormatError } from "../base/errors.js";
import { scope } from "../memory/scope.js";
import { readState } from "../train/checkpoint/checkpoint.js";
import { findCheckpoint } from "../train/index.js";
import { laterSettings, type Settings } from "./experiment.js";
import { normKinds } from "./models.js";
import { UsageError } from "./usage_error.js";

export const CHECKPOINT = "checkpoint.evk";

/** What a run begins with: the settings, and the checkpoint that it goes on from. */
export interface Beginning {
  readonly settings: Settings;
  readonly from: { readonly path: string; readonly step: number; readonly folder: string } | null;
}

/** Reads what --resume names; with "auto" that is the newest whole checkpoint of --out, and nothing where there is none. */
export function beginning(
  given: Settings,
  { resume, out }: { resume?: string; out?: string },
  command: Command,
): Beginning {
  const path = resume === "auto" ? newestOf(out) : resume === undefined ? null : checkpointPath(resume);
  return path === null ? { settings: given, from: null } : savedRun(path, given, command);
}

function newestOf(out: string | undefined): string | null {
  if (out === undefined) {
    throw new UsageError("--resume auto goes on from the newest checkpoint in --out; name that folder with --out.");
  }
  const found = findCheckpoint(join(out, CHECKPOINT));
  const text = found
    ? `Going on from ${found.path}, after step ${found.step}`
    : `No checkpoint in ${out}: starting anew`;
  process.stderr.write(`${text}\n`);
  return found?.path ?? null;
}

/** A folder means the checkpoint in it. */
function checkpointPath(given: string): string {
  return existsSync(given) && statSync(given).isDirectory() ? join(given, CHECKPOINT) : given;
}

/** What may differ from the run that is resumed; the rest comes from it, and saying something else is an error. */
const mayChange: readonly (keyof Settings)[] = ["epochs", "dataDir", "device"];

function savedRun(path: string, given: Settings, command: Command): Beginning {
  const { settings, step } = scope(() => {
    const state = readState(path);
    return { settings: state.settings as Settings | undefined, step: state.step as number };
  });
  if (!settings || !normKinds.includes(settings.norm)) {
    throw new FormatError({
      rule: "--resume takes a checkpoint that evenkeel train wrote",
      got: `${path}, which has no settings of a run`,
    });
  }
  const saved = { ...laterSettings, ...settings };
  const said = (Object.keys(given) as (keyof Settings)[]).filter((k) => command.getOptionValueSource(k) === "cli");
  for (const key of said) {
    if (mayChange.includes(key) || given[key] === saved[key]) continue;
    const flag = flagOf(key);
    const [made, now] = typeof saved[key] === "boolean" ? ["another choice of ", ""] : ["", `; got ${given[key]}`];
    const value = made === "" ? ` ${saved[key]}` : "";
    throw new UsageError(
      `${path} was made with ${made}${flag}${value}${now}. Leave ${flag} out, or train anew without --resume.`,
    );
  }
  const changes = Object.fromEntries(said.map((key) => [key, given[key]]));
  return { settings: { ...saved, ...changes }, from: { path, step, folder: dirname(path) } };
}

/** A choice that is made by default has a flag against it. */
const flagOf = (key: keyof Settings): string =>
  `--${laterSettings[key as keyof typeof laterSettings] === true ? "no-" : ""}${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
