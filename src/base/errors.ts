/** What every error of Evenkeel says: the rule that was broken, what came instead, and what to do about it. */
export interface Complaint {
  readonly rule: string;
  readonly got: string;
  readonly fix?: string;
  /** Memory was asked for by someone who does not know what for; those further out add it with `forPurpose`. */
  readonly request?: true;
}

/** Root of all errors that Evenkeel raises on purpose; anything else that escapes is a defect. */
export class EvenkeelError extends Error {
  override readonly name: string = "EvenkeelError";
  readonly #complaint: Complaint | null;

  constructor(complaint: Complaint | string, options?: { cause?: unknown }) {
    super(typeof complaint === "string" ? complaint : sentence(complaint), options);
    this.#complaint = typeof complaint === "string" ? null : complaint;
  }

  /** What the text was made of, where it was. */
  get complaint(): Complaint | null {
    return this.#complaint;
  }
}

/** An error about memory that was asked for, saying also what for ("for [2, 3] float32", "in matmul"); any other as it is. */
export function forPurpose(error: unknown, purpose: string): unknown {
  if (!(error instanceof EvenkeelError) || !error.complaint?.request) return error;
  const Kind = error.constructor as new (complaint: Complaint) => EvenkeelError;
  return new Kind({ ...error.complaint, got: `${error.complaint.got} ${purpose}` });
}

function sentence({ rule, got, fix }: Complaint): string {
  return `${rule}; got ${got}.${fix ? ` ${fix}${/[.!?]$/.test(fix) ? "" : "."}` : ""}`;
}

/** A shape, rank, axis or index does not fit. */
export class ShapeError extends EvenkeelError {
  override readonly name = "ShapeError";
}

/** An element type does not fit, or types were mixed. */
export class DTypeError extends EvenkeelError {
  override readonly name = "DTypeError";
}

/** A device is missing, or devices were mixed. */
export class DeviceError extends EvenkeelError {
  override readonly name = "DeviceError";
}

/** An option has an unknown name or a value outside its range. */
export class OptionError extends EvenkeelError {
  override readonly name = "OptionError";
}

/** A tensor was used after dispose, a graph after its release, or a call came at a time that has no meaning. */
export class StateError extends EvenkeelError {
  override readonly name = "StateError";
}

/** The heap cannot grow; the text says what is alive. */
export class OutOfMemoryError extends EvenkeelError {
  override readonly name = "OutOfMemoryError";
}

/** A file or a byte stream is missing, cut short, or not of the format it should have. */
export class FormatError extends EvenkeelError {
  override readonly name = "FormatError";
}

/** A loss or a gradient became NaN or infinite, so that training cannot go on. */
export class NonFiniteError extends EvenkeelError {
  override readonly name = "NonFiniteError";
}

/** Ranks of a group do not act together: one gave up, did not come in time, or made another call than the others. */
export class CommunicationError extends EvenkeelError {
  override readonly name = "CommunicationError";
}

/** A file cannot be written or read: no room, no permission, no such folder. */
export class FileError extends EvenkeelError {
  override readonly name = "FileError";
}

/** A backend has no kernel for this case; dispatch falls back on this error and on no other. */
export class UnsupportedKernel extends EvenkeelError {
  override readonly name = "UnsupportedKernel";

  constructor(what: Complaint | string) {
    // Nearly each is caught at once by dispatch, and a stack trace costs more than a small kernel.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(what);
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** What came instead of a tensor, for an error's text. */
export function describeValue(value: unknown): string {
  if (Array.isArray(value)) return "an array";
  return ArrayBuffer.isView(value) ? "a typed array" : String(value);
}
