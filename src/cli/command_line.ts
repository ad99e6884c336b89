import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import type { Communicator } from "../base/communicator.js";
import { EvenkeelError } from "../base/errors.js";
import { finalizeDistributed, initDistributed } from "../distributed/index.js";
import { isOnAllRanks } from "../distributed/together.js";
import { benchCommand } from "./bench.js";
import { compareCommand } from "./compare.js";
import { convertCommand } from "./convert.js";
import { trainCommand } from "./train.js";
import { UsageError } from "./usage_error.js";

/** A command adds itself to the program; its action gives the exit code to `done`. */
export type AddCommand = (program: Command, done: (exitCode: number) => void) => void;

const commands: readonly AddCommand[] = [trainCommand, compareCommand, benchCommand, convertCommand];

/** What does not use several ranks. */
const forOneProcess = new Set(["bench", "convert"]);

/**
 * Runs one command line, and gives the exit code: 0, 1 (failed), 2 (wrong usage), or 128 + a signal's number. Started on several ranks, it
 * is the same on all of them, unless one fails by itself.
 */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  let ranks: Communicator;
  try {
    ranks = initDistributed();
  } catch (error) {
    if (!(error instanceof EvenkeelError)) throw error;
    process.stderr.write(`evenkeel: ${error.message}\n`);
    return 1;
  }
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const program = new Command("evenkeel")
    .description("Train neural networks, compare normalization layers, time training steps, and convert models' files.")
    .version(version, "-V, --version", "print the version")
    .showSuggestionAfterError(true)
    .exitOverride()
    // Errors are reported below, in one line.
    .configureOutput({ outputError: () => {}, ...(ranks.rank > 0 ? { writeOut: () => {}, writeErr: () => {} } : {}) })
    .hook("preAction", (_, command) => checkRanks(command.name(), ranks.size));
  for (const add of commands) {
    add(program, (code) => {
      exitCode = code;
    });
  }
  for (const command of program.commands) command.copyInheritedSettings(program);
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    exitCode = exitCodeOf(error);
    // What is the same everywhere one rank says for all.
    const shared = exitCode !== 1 || isOnAllRanks(error);
    if (!shared || ranks.rank === 0) report(error, { program, args, ...(shared ? {} : { rank: ranks }) });
    // The others would wait for this rank: it ends them as it ends.
    if (!shared) return exitCode;
  }
  finalizeDistributed();
  return exitCode;
}

function checkRanks(command: string, size: number): void {
  if (size === 1 || !forOneProcess.has(command)) return;
  throw new UsageError(`${command} runs in one process, and was started on ${size} ranks. Start it without mpirun.`);
}

/** Help and version arrive as errors as well. A usage error may be that of another rank. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  return (error as Error | null)?.name === "UsageError" ? 2 : 1;
}

function report(error: unknown, { program, args, rank }: Circumstances): void {
  if (error instanceof CommanderError) {
    // Help is printed already.
    if (error.exitCode !== 0 && error.code !== "commander.help") {
      usage(error.message.replace(/^error: /, ""), program, args);
    }
    return;
  }
  if (error instanceof UsageError) {
    usage(error.message, program, args);
    return;
  }
  const who = rank && rank.size > 1 ? `evenkeel (rank ${rank.rank})` : "evenkeel";
  // What Evenkeel does not raise on purpose is a defect, and its trace is what a report of it needs.
  const text = error instanceof EvenkeelError ? error.message : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`${who}: ${text}\n`);
}

interface Circumstances {
  readonly program: Command;
  readonly args: readonly string[];
  /** The rank whose error it is; missing where it is that of all. */
  readonly rank?: { readonly rank: number; readonly size: number };
}

function usage(message: string, program: Command, args: readonly string[]): void {
  const command = program.commands.find((c) => c.name() === args[0]);
  const where = command ? `evenkeel ${command.name()}` : "evenkeel";
  const line = message.replace(/\s*\n\s*/g, " ").replace(/[^.?!)]$/, "$&.");
  process.stderr.write(`${where}: ${line} See ${where} --help\n`);
}
