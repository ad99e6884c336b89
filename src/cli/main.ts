#!/usr/bin/env node
import { runCommandLine } from "./command_line.js";

// A reader that closes the pipe early (head) is no failure of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});
// Set, not exit(): what is still on its way to a pipe must arrive.
process.exitCode = await runCommandLine(process.argv.slice(2));
