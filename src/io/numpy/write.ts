import { writeFile } from "#files";
import { DTypeError, OptionError } from "../../base/errors.js";
import { checkBoolean, readOptions } from "../../base/options.js";
import type { StateSource } from "../../nn/module.js";
import { joined } from "../joined.js";
import type { FileTensor } from "../tensor_file.js";
import {
  checkPath,
  type ElementTypes,
  elementTypeOptions,
  type TensorsToWrite,
  type TensorToWrite,
  tensorsToWrite,
} from "../tensors_to_write.js";
import { zipPieces } from "../zip/write.js";
import { npyCode, npyHeader } from "./header.js";

export interface NpzOptions extends ElementTypes {
  /** Deflates each array, as numpy.savez_compressed; false. */
  readonly compress?: boolean;
}

/**
 * Writes tensors by name as an .npz file: float64 as <f8, float32 as <f4, int32 as <i4, or as `dtype` and `dtypes` say. Without a path it
 * returns the bytes; with one it writes the file, whole or not at all, and returns its size in bytes.
 * Throws OptionError, DTypeError for bfloat16, DeviceError for tensors not on the CPU, FormatError for numbers that a type cannot
 * hold, FileError.
 */
export function saveNpz(tensors: TensorsToWrite, path?: undefined, options?: NpzOptions): Uint8Array;
export function saveNpz(tensors: TensorsToWrite, path: string, options?: NpzOptions): number;
export function saveNpz(tensors: TensorsToWrite, path?: string, options?: NpzOptions): Uint8Array | number {
  const { compress, ...types } = readOptions("saveNpz", options, { ...elementTypeOptions, compress: false });
  checkBoolean("compress", compress);
  const list = tensorsToWrite("saveNpz", tensors, types).map(withCode);
  checkPath("saveNpz", path);
  const entries = list.map((tensor) => ({ name: `${tensor.name}.npy`, bytes: () => joined(npyPieces(tensor)) }));
  const pieces = zipPieces(entries, compress);
  return path === undefined ? joined(pieces) : writeFile(path, pieces);
}

export type NpyOptions = Pick<ElementTypes, "dtype">;

/** Writes one tensor as an .npy file, byte by byte what numpy.save makes of it; otherwise as saveNpz. */
export function saveNpy(t: StateSource | FileTensor, path?: undefined, options?: NpyOptions): Uint8Array;
export function saveNpy(t: StateSource | FileTensor, path: string, options?: NpyOptions): number;
export function saveNpy(t: StateSource | FileTensor, path?: string, options?: NpyOptions): Uint8Array | number {
  const { dtype } = readOptions("saveNpy", options, { dtype: elementTypeOptions.dtype });
  const [tensor] = tensorsToWrite("saveNpy", { array: t }, { ...(dtype ? { dtypes: { array: dtype } } : {}) });
  checkPath("saveNpy", path);
  const pieces = npyPieces(withCode(tensor!));
  return path === undefined ? joined(pieces) : writeFile(path, pieces);
}

interface CodedTensor extends TensorToWrite {
  readonly code: string;
}

function withCode(tensor: TensorToWrite): CodedTensor {
  const code = npyCode(tensor.type);
  if (code === undefined) {
    const fix = 'Choose another with dtype, say "float16" or "float32"';
    throw new DTypeError({ rule: "numpy has the types of IEEE 754", got: `${tensor.type} for ${tensor.name}`, fix });
  }
  if (tensor.shape.length <= 32) return { ...tensor, code };
  throw new OptionError({ rule: "numpy has at most 32 axes", got: `${tensor.shape.length} of ${tensor.name}` });
}

function* npyPieces({ shape, code, bytes }: CodedTensor): Generator<Uint8Array> {
  yield npyHeader(shape, code);
  yield bytes();
}
