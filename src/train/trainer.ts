import { OptionError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { finalizeDistributed } from "../distributed/finalize.js";
import { gatherJson, together } from "../distributed/together.js";
import { scope } from "../memory/scope.js";
import type { FoundCheckpoint } from "./checkpoint/find_checkpoint.js";
import { CheckpointKeeper, type CheckpointOptions } from "./checkpoint/keeper.js";
import { readResumable } from "./checkpoint/resumable.js";
import { type LoopOptions, loopDefaults } from "./loop_options.js";
import { Progress, type ProgressOptions } from "./progress/progress.js";
import { exitCodeOf, type StopSignal, watchSignals } from "./signals.js";
import { TrainingLoop, type TrainingResult } from "./training_loop.js";

export interface TrainerOptions extends LoopOptions {
  /** Saves checkpoints, from which resume() goes on with the same bits. */
  readonly checkpoint?: CheckpointOptions;
  /** Shows progress on standard error, of several ranks that of rank 0. Default false. */
  readonly progress?: boolean | ProgressOptions;
  /**
   * What Ctrl-C (SIGINT) and SIGTERM do while fit() runs; a second one always ends the process at once.
   * "exit" (default): the step is finished, a checkpoint saved if there is a path, and the process ends with 130 or 143.
   * "return": the same, but fit() returns, with the reason "stopped" and the signal's name. "ignore": nothing here.
   * With several ranks also SIGHUP and SIGUSR2; one rank that gets it is enough, and all end after the same step with the same code.
   */
  readonly signals?: "exit" | "return" | "ignore";
}

export interface TrainerResult extends TrainingResult {
  /** The signal that stopped the run, or null. */
  readonly signal: StopSignal | null;
}

/** Trains a model, with checkpoints, progress on the terminal, and an orderly end on Ctrl-C. */
export class Trainer extends TrainingLoop {
  private readonly keeper: CheckpointKeeper | null;
  private readonly progress: Progress | null;
  private readonly signals: "exit" | "return" | "ignore";

  constructor(options: TrainerOptions) {
    const { checkpoint, progress, signals, ...loop } = readOptions("Trainer", options, {
      ...loopDefaults,
      checkpoint: undefined as CheckpointOptions | undefined,
      progress: false as boolean | ProgressOptions,
      signals: "exit" as "exit" | "return" | "ignore",
    });
    super(loop as LoopOptions);
    if (!["exit", "return", "ignore"].includes(signals)) {
      throw new OptionError({ rule: 'Trainer: signals is "exit", "return" or "ignore"', got: String(signals) });
    }
    this.signals = signals;
    const draws = progress && this.options.communicator.rank === 0;
    this.progress = draws ? new Progress(progress === true ? undefined : progress) : null;
    this.keeper = checkpoint
      ? new CheckpointKeeper(
          checkpoint,
          () => this.state(),
          (event) => this.emit(event),
          this.options.communicator,
        )
      : null;
    // Checkpoints come after the user's callbacks, so that what these do is in them; the last line of progress last.
    if (this.keeper) this.callbacks.push(this.keeper);
    if (this.progress) this.callbacks.push(this.progress);
  }

  /**
   * Takes up a run from a checkpoint, and says which. With "auto" from the newest whole one of those that this trainer writes (see
   * findCheckpoint); null where there is none yet. Of several ranks, which all call it, rank 0 alone reads the file. Throws FormatError, on
   * all ranks, when the file is damaged or of another model or data.
   */
  resume(path: "auto"): FoundCheckpoint | null;
  resume(path: string): FoundCheckpoint;
  resume(path: string): FoundCheckpoint | null {
    const own = path === "auto" ? this.keeper?.path : path;
    if (own === undefined) {
      throw new OptionError({ rule: 'resume("auto") is for a trainer with the option checkpoint', got: "one without" });
    }
    const { communicator } = this.options;
    return scope(() => {
      const found = readResumable(own, path === "auto", communicator);
      if (!found) return null;
      together(communicator, () => this.restore(found.state));
      return { path: found.path, step: found.step, skipped: found.skipped };
    });
  }

  override async fit(): Promise<TrainerResult> {
    const { communicator } = this.options;
    const watch = this.signals === "ignore" ? null : watchSignals(() => this.stop(), communicator.size);
    try {
      const result = await super.fit();
      const signal = gatherJson(communicator, watch?.received ?? null).find((received) => received !== null) ?? null;
      if (signal && this.signals === "exit") {
        const saved = this.keeper ? `; checkpoint in ${this.keeper.path}` : "";
        if (communicator.rank === 0) {
          process.stderr.write(`Stopped by ${signal} after step ${result.steps}${saved}\n`);
        }
        // All ranks are here: none has to be ended by another.
        finalizeDistributed();
        process.exit(exitCodeOf(signal));
      }
      return { ...result, signal };
    } finally {
      watch?.close();
      this.progress?.close();
    }
  }
}
