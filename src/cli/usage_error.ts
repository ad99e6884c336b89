import { EvenkeelError } from "../base/errors.js";

/** The command line was used wrongly: exit code 2, where other errors have 1. */
export class UsageError extends EvenkeelError {
  override readonly name = "UsageError";
}
