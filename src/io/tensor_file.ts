import type { NumberArray } from "../base/dtype.js";
import type { ElementName } from "./elements.js";

/** What a file says of a tensor before its numbers are read. */
export interface TensorInfo {
  readonly shape: readonly number[];
  /** The type of its elements in the file. */
  readonly type: ElementName;
}

/** A tensor's numbers, as a module's `loadStateDict` takes them: float64 and float32 as they are, shorter floats as float32, whole numbers as int32. */
export interface FileTensor extends TensorInfo {
  readonly data: NumberArray;
}

/** Named tensors of a file, whatever its format; each is read when it is asked for. */
export interface TensorFile {
  /** "safetensors", "npz", "keras", ...: what errors and reports call it. */
  readonly format: string;
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Throws FormatError for a name that is not there, and for numbers that are not as announced. */
  read(name: string): Promise<FileTensor>;
  close(): void;
}
