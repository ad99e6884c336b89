import { createLogUpdate } from "log-update";
import type { TrainingEvent } from "../../base/events.js";
import { checkNonNegative, readOptions } from "../../base/options.js";
import type { Callback } from "../callback.js";
import { barLine, type ProgressState, plainLine } from "./line.js";

/** A place to write lines to: what is asked of a Node stream, without asking users for Node's types. */
export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface ProgressOptions {
  /** Where progress goes. Default: standard error, so that standard output stays free for results. */
  readonly stream?: TextStream;
  /** Seconds between lines when there is no terminal. Default 10. */
  readonly everySeconds?: number;
}

const FRAMES_PER_SECOND = 15;

/** The terminal says in its locale whether it can show more than ASCII. */
function showsUnicode(): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return process.platform === "win32" || /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || "");
}

/**
 * Shows how a run goes: on a terminal one line that is redrawn, elsewhere (a pipe, a file, TERM=dumb) one plain line
 * every few seconds.
 */
export class Progress implements Callback {
  private readonly stream: TextStream;
  private readonly interval: number;
  private readonly draw: ReturnType<typeof createLogUpdate> | null;
  private state: ProgressState | null = null;
  private lastShown = 0;
  private lastLength = 0;
  private startTime = 0;
  private startStep = 0;
  private smoothLoss: number | null = null;

  constructor(options?: ProgressOptions) {
    const { stream, everySeconds } = readOptions("progress", options, { stream: process.stderr, everySeconds: 10 });
    checkNonNegative("everySeconds", everySeconds);
    this.stream = stream;
    const terminal = stream.isTTY === true && process.env.TERM !== "dumb";
    this.draw = terminal ? createLogUpdate(stream) : null;
    this.interval = terminal ? 1000 / FRAMES_PER_SECOND : everySeconds * 1000;
  }

  onEvent(event: TrainingEvent): void {
    if (event.type === "runStart") {
      const { name, epochs, stepsPerEpoch, step, device = "cpu" } = event;
      this.startTime = this.lastShown = performance.now();
      this.startStep = step;
      this.smoothLoss = null;
      const totalSteps = epochs * stepsPerEpoch;
      const epoch = Math.min(epochs, Math.floor(step / stepsPerEpoch) + 1);
      this.state = { name, device, epoch, epochs, step, totalSteps, loss: null, accuracy: null, stepsPerSecond: null };
      if (this.draw) this.show(this.state);
    } else if (this.state && event.type === "step") {
      const { step, epoch } = event;
      this.smoothLoss = this.smoothLoss === null ? event.loss : this.smoothLoss + (event.loss - this.smoothLoss) / 20;
      const seconds = (performance.now() - this.startTime) / 1000;
      const stepsPerSecond = seconds > 0 ? (step - this.startStep) / seconds : null;
      this.state = { ...this.state, step, epoch, loss: this.smoothLoss, stepsPerSecond };
      if (performance.now() - this.lastShown >= this.interval) this.show(this.state);
    } else if (this.state && event.type === "evaluation") {
      this.state = { ...this.state, accuracy: event.accuracy };
    } else if (this.state && event.type === "runEnd") {
      this.state = {
        ...this.state,
        step: event.step,
        accuracy: event.testAccuracy ?? this.state.accuracy,
        loss: event.trainLoss ?? this.state.loss,
      };
      this.show(this.state);
      this.close();
    }
  }

  /** Leaves the last line standing and gives the cursor back. May be called at any time. */
  close(): void {
    this.state = null;
    this.lastLength = 0;
    this.draw?.done();
  }

  private show(state: ProgressState): void {
    this.lastShown = performance.now();
    if (this.draw) this.redraw(this.draw, state, this.stream.columns || 80);
    else this.stream.write(`${plainLine(state)}\n`);
  }

  private redraw(draw: (text: string) => void, state: ProgressState, columns: number): void {
    // A terminal that became narrower has broken the old line into several, of which log-update knows only one.
    const extra = Math.max(0, Math.ceil(this.lastLength / columns) - 1);
    if (extra > 0) this.stream.write("\u001b[1A\u001b[2K".repeat(extra));
    // One column stays free: a line that fills the last one makes some terminals wrap.
    const line = barLine(state, columns - 1, showsUnicode());
    this.lastLength = line.length;
    draw(line);
  }
}
