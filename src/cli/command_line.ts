import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { EvenkeelError } from "../base/errors.js";
import { benchCommand } from "./bench.js";
import { compareCommand } from "./compare.js";
import { convertCommand } from "./convert.js";
import { trainCommand } from "./train.js";
import { UsageError } from "./usage_error.js";

/** A command adds itself to the program; its action gives the exit code to `done`. */
export type AddCommand = (program: Command, done: (exitCode: number) => void) => void;

const commands: readonly AddCommand[] = [trainCommand, compareCommand, benchCommand, convertCommand];

/** Runs one command line, and gives the exit code: 0, 1 (failed), 2 (wrong usage), or 128 + a signal's number. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const program = new Command("evenkeel")
    .description("Train neural networks, compare normalization layers, time training steps, and convert models' files.")
    .version(version, "-V, --version", "print the version")
    .showSuggestionAfterError(true)
    .exitOverride()
    // Errors are reported below, in one line.
    .configureOutput({ outputError: () => {} });
  for (const add of commands) {
    add(program, (code) => {
      exitCode = code;
    });
  }
  for (const command of program.commands) command.copyInheritedSettings(program);
  try {
    await program.parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    return report(error, program, args);
  }
}

function report(error: unknown, program: Command, args: readonly string[]): number {
  if (error instanceof CommanderError) {
    // Help and version arrive here as well, once they are printed; help without a command is a wrong usage.
    if (error.exitCode === 0) return 0;
    if (error.code !== "commander.help") return usage(error.message.replace(/^error: /, ""), program, args);
    return 2;
  }
  if (error instanceof UsageError) return usage(error.message, program, args);
  if (error instanceof EvenkeelError) process.stderr.write(`evenkeel: ${error.message}\n`);
  // Anything else is a defect, and its trace is what a report of it needs.
  else process.stderr.write(`evenkeel: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

function usage(message: string, program: Command, args: readonly string[]): number {
  const command = program.commands.find((c) => c.name() === args[0]);
  const where = command ? `evenkeel ${command.name()}` : "evenkeel";
  const line = message.replace(/\s*\n\s*/g, " ").replace(/[^.?!)]$/, "$&.");
  process.stderr.write(`${where}: ${line} See ${where} --help\n`);
  return 2;
}
