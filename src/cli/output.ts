import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { FileError } from "../base/errors.js";
import type { TrainingEvent } from "../base/events.js";
import { fileReason, writeAtomically } from "../io/files/atomic_file.js";
import { type ReportInput, type ReportTable, renderReport } from "../train/index.js";

/** Makes the folder for a command's files now, so that a wrong path is known before hours of training. */
export function makeFolder(wanted: string | undefined): string {
  const folder = wanted ?? freeName(join("runs", timeStamp(new Date())));
  asFileError(`The folder ${folder} must be there or be made`, () => makeWithParents(folder));
  return folder;
}

/** Node's own recursive mkdir asks for ever where a parent is there but what is made in it is not, as in /proc. */
function makeWithParents(folder: string): void {
  if (isFolder(folder)) return;
  makeWithParents(dirname(folder));
  try {
    mkdirSync(folder);
  } catch (error) {
    // Another process may have been quicker.
    if (!isFolder(folder)) throw error;
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

function timeStamp(time: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date}T${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join("-")}`;
}

function freeName(path: string): string {
  if (!existsSync(path)) return path;
  for (let i = 2; ; i++) if (!existsSync(`${path}-${i}`)) return `${path}-${i}`;
}

function asFileError<T>(rule: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw new FileError({ rule, got: fileReason(error) }, { cause: error });
  }
}

/** Writes report.html and summary.json, and returns the report's path. */
export function writeResults(folder: string, report: ReportInput, summary: unknown): string {
  const path = join(folder, "report.html");
  writeAtomically(path, [Buffer.from(renderReport(report))]);
  writeAtomically(join(folder, "summary.json"), [Buffer.from(`${JSON.stringify(summary, null, 2)}\n`)]);
  return path;
}

/** A run's events as a file of JSON lines, written on when a checkpoint is, so that the two fit together. */
export class EventFile {
  readonly events: TrainingEvent[];
  private written = 0;

  /** With `resumedStep` the file goes on after what is already in it up to that step. */
  constructor(
    private readonly path: string,
    resumedStep: number | null,
  ) {
    const before = resumedStep === null || !existsSync(path) ? [] : readEvents(path);
    this.events = before.filter((e) => e.step <= resumedStep! && e.type !== "runEnd");
    writeAtomically(path, []);
    this.write();
  }

  onEvent(event: TrainingEvent): void {
    this.events.push(event);
    if (event.type === "checkpoint" || event.type === "runEnd") this.write();
  }

  private write(): void {
    const lines = this.events.slice(this.written).map((event) => `${JSON.stringify(event)}\n`);
    asFileError(`Events are written to ${this.path}`, () => appendFileSync(this.path, lines.join("")));
    this.written = this.events.length;
  }
}

/** Lines that are no events (the last one of a file that was cut off) are left out. */
function readEvents(path: string): TrainingEvent[] {
  const text = asFileError(`${path} must be readable`, () => readFileSync(path, "utf8"));
  return text.split("\n").flatMap((line) => {
    try {
      const event: unknown = JSON.parse(line);
      return typeof event === "object" && event !== null && "type" in event ? [event as TrainingEvent] : [];
    } catch {
      return [];
    }
  });
}

/** A table for a terminal: the first column to the left, the others to the right unless they are texts too. */
export function textTable({ head, rows, note }: ReportTable, others: "left" | "right" = "right"): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  const lines = all.map((row) =>
    row
      .map((cell, i) => (i === 0 || others === "left" ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, "-".repeat(widths.reduce((a, b) => a + b + 2, -2)));
  return [...lines, ...(note ? [note] : [])].join("\n");
}

export const say = (text: string): void => void process.stdout.write(`${text}\n`);
