import { EvenkeelError, FileError } from "../../base/errors.js";
import type { CheckpointEvent, TrainingEvent } from "../../base/events.js";
import { checkPositiveInteger, readOptions } from "../../base/options.js";
import { type FileSystem, fileReason, nodeFiles } from "../../io/files/atomic_file.js";
import { scope } from "../../memory/scope.js";
import type { Callback, TrainerHandle } from "../callback.js";
import type { TrainingState } from "../training_state.js";
import { writeStateAsync } from "./checkpoint.js";
import { keepCheckpoint } from "./kept.js";

export interface CheckpointOptions {
  /** The file to write; the newest checkpoint is always here. */
  readonly path: string;
  /** Save every so many steps. */
  readonly everySteps?: number;
  /** Save every so many epochs. Default 1 unless everySteps is given. */
  readonly everyEpochs?: number;
  /** With more than 1, this many newest checkpoints are also kept as path-step<N>. Default 1: only `path`. */
  readonly keep?: number;
  /** How files are written; for tests of failing disks. */
  readonly files?: FileSystem;
}

/** Saves as the run goes on, when it ends, and when it is stopped; not when it fails. */
export class CheckpointKeeper implements Callback {
  readonly path: string;
  private readonly everySteps: number | undefined;
  private readonly everyEpochs: number | undefined;
  private readonly keep: number;
  private readonly files: FileSystem;
  private savedStep = -1;

  constructor(
    options: CheckpointOptions,
    private readonly state: () => TrainingState,
    private readonly emit: (event: CheckpointEvent) => Promise<void>,
  ) {
    const o = readOptions("checkpoint", options, {
      path: "",
      everySteps: undefined as number | undefined,
      everyEpochs: undefined as number | undefined,
      keep: 1,
      files: nodeFiles,
    });
    if (typeof o.path !== "string" || o.path === "") {
      throw new FileError({ rule: "checkpoint: path must name a file", got: JSON.stringify(o.path) ?? "nothing" });
    }
    for (const key of ["everySteps", "everyEpochs"] as const) {
      if (o[key] !== undefined) checkPositiveInteger(`checkpoint: ${key}`, o[key]);
    }
    this.path = o.path;
    this.everySteps = o.everySteps;
    this.everyEpochs = o.everyEpochs ?? (o.everySteps === undefined ? 1 : undefined);
    this.keep = checkPositiveInteger("checkpoint: keep", o.keep);
    this.files = o.files;
  }

  async onEvent(event: TrainingEvent, trainer: TrainerHandle): Promise<void> {
    if (event.type === "runStart") this.savedStep = -1;
    const due =
      (event.type === "step" && this.everySteps !== undefined && event.step % this.everySteps === 0) ||
      (event.type === "epochEnd" && this.everyEpochs !== undefined && event.epoch % this.everyEpochs === 0) ||
      (event.type === "runEnd" && event.reason !== "failed" && this.savedStep !== event.step);
    if (due) await this.save(trainer);
  }

  private async save({ step, epoch }: TrainerHandle): Promise<void> {
    const started = performance.now();
    const { path } = this;
    const { written } = scope(() => ({ written: writeStateAsync(path, this.state(), this.files) }));
    const bytes = await written;
    this.savedStep = step;
    try {
      keepCheckpoint(path, step, this.keep, this.files);
    } catch (error) {
      if (error instanceof EvenkeelError) throw error;
      const got = fileReason(error);
      throw new FileError(
        { rule: `The ${this.keep} newest checkpoints are kept beside ${path}`, got },
        { cause: error },
      );
    }
    await this.emit({ type: "checkpoint", step, epoch, path, bytes, seconds: (performance.now() - started) / 1000 });
  }
}
