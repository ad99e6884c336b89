import { basename, dirname } from "node:path";
import { type Communicator, loopback } from "../../base/communicator.js";
import { EvenkeelError, FileError } from "../../base/errors.js";
import type { CheckpointEvent, TrainingEvent } from "../../base/events.js";
import { checkPositiveInteger, readOptions } from "../../base/options.js";
import { onRankZeroAsync } from "../../distributed/together.js";
import {
  type FileSystem,
  fileReason,
  nodeFiles,
  rehearseWriting,
  removeLeftovers,
  writeAtomically,
} from "../../io/files/atomic_file.js";
import { scope } from "../../memory/scope.js";
import type { Callback, TrainerHandle } from "../callback.js";
import type { TrainingState } from "../training_state.js";
import { encodeState } from "./checkpoint.js";
import { keepCheckpoint, withoutStep } from "./kept.js";

export interface CheckpointOptions {
  /** The file to write; the newest checkpoint is always here. */
  readonly path: string;
  /** Save every so many steps. */
  readonly everySteps?: number;
  /** Save every so many epochs. Default 1 unless everySteps is given. */
  readonly everyEpochs?: number;
  /**
   * With more than 1, this many newest checkpoints are also kept as path-step<N>, for the day when the newest is damaged.
   * Default 1: only `path`.
   */
  readonly keep?: number;
  /** How files are written; for tests of failing disks. */
  readonly files?: FileSystem;
}

/**
 * Saves as the run goes on, when it ends, and when it is stopped; not when it fails. Rank 0 writes, all ranks hear how it went.
 * A disk that cannot take a checkpoint when the run starts or ends is an error; on the way it is a warning, and the next time tries again.
 */
export class CheckpointKeeper implements Callback {
  readonly path: string;
  private readonly everySteps: number | undefined;
  private readonly everyEpochs: number | undefined;
  private readonly keep: number;
  private readonly files: FileSystem;
  private savedStep = -1;
  /** What the last attempt failed with. */
  private trouble: string | null = null;

  constructor(
    options: CheckpointOptions,
    private readonly state: () => TrainingState,
    private readonly emit: (event: CheckpointEvent) => Promise<void>,
    private readonly communicator: Communicator = loopback,
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
    if (event.type === "runStart") await this.start();
    const onTheWay =
      (event.type === "step" && this.everySteps !== undefined && event.step % this.everySteps === 0) ||
      (event.type === "epochEnd" && this.everyEpochs !== undefined && event.epoch % this.everyEpochs === 0);
    if (onTheWay) await this.try(trainer);
    if (event.type === "runEnd" && event.reason !== "failed" && this.savedStep !== event.step) {
      await this.emit(await this.write(trainer));
    }
  }

  /** Writes what would be saved now and removes it again: what is wrong with the disk is known before hours of work. */
  private async start(): Promise<void> {
    this.savedStep = -1;
    this.trouble = null;
    await this.onRankZero((pieces) => {
      const { path, files } = this;
      removeLeftovers(dirname(path), (name) => withoutStep(name) === basename(path), files);
      rehearseWriting(path, pieces, files);
      return 0;
    });
  }

  private async try(trainer: TrainerHandle): Promise<void> {
    let written: CheckpointEvent;
    try {
      written = await this.write(trainer);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      // Said once for as long as it lasts.
      if (this.trouble !== error.message) {
        this.warn(
          `No checkpoint of step ${trainer.step}: ${error.message} Training goes on, the next one tries again.`,
        );
      }
      this.trouble = error.message;
      return;
    }
    if (this.trouble !== null) this.warn(`Checkpoints are written again since step ${trainer.step}.`);
    this.trouble = null;
    await this.emit(written);
  }

  private async write({ step, epoch }: TrainerHandle): Promise<CheckpointEvent> {
    const started = performance.now();
    const { path, keep, files } = this;
    const bytes = await this.onRankZero((pieces) => {
      const size = writeAtomically(path, pieces, files);
      try {
        keepCheckpoint(path, step, keep, files);
      } catch (error) {
        if (error instanceof EvenkeelError) throw error;
        const got = fileReason(error);
        throw new FileError({ rule: `The ${keep} newest checkpoints are kept beside ${path}`, got }, { cause: error });
      }
      return size;
    });
    this.savedStep = step;
    return { type: "checkpoint", step, epoch, path, bytes, seconds: (performance.now() - started) / 1000 };
  }

  /** Hands the encoded state to `write` on rank 0, and returns what that returns on every rank. */
  private async onRankZero(write: (pieces: Uint8Array[]) => number): Promise<number> {
    // Every rank has a part in the state.
    const { pieces } = scope(() => {
      const state = this.state();
      return { pieces: this.communicator.rank === 0 ? encodeState(state) : null };
    });
    return onRankZeroAsync(this.communicator, async () => write((await pieces)!));
  }

  private warn(text: string): void {
    if (this.communicator.rank === 0) console.warn(text);
  }
}
