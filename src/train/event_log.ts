import type { RunRecord, TrainingEvent } from "../base/events.js";
import type { Callback } from "./callback.js";

/** Keeps all events of a run, for a report. */
export class EventLog implements Callback, RunRecord {
  readonly events: TrainingEvent[] = [];

  constructor(readonly name: string) {}

  onEvent(event: TrainingEvent): void {
    this.events.push(event);
  }
}
