import { fromBinary } from "@bufbuild/protobuf";
import { besideFile, openFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { damaged } from "../damage.js";
import { checkRange } from "../source/byte_source.js";
import { type NowInput, openNow } from "../source/open.js";
import { compile } from "./compile.js";
import { OnnxModule } from "./model.js";
import { ModelSchema } from "./proto/onnx_pb.js";
import type { ExternalBytes } from "./tensor_proto.js";

/** Files that a model names for its data: bytes by name, or a function that gives them. */
export type ExternalData =
  | Readonly<Record<string, Uint8Array>>
  | ReadonlyMap<string, Uint8Array>
  | ((name: string) => Uint8Array);

export interface LoadOnnxOptions {
  /** Values to end at instead of the file's outputs, by name; what does not lead to them is left out. */
  readonly outputs?: readonly string[];
  /**
   * Data that stands in other files. A model opened by its path finds them in its own folder and needs none of this.
   */
  readonly externalData?: ExternalData;
}

/** A protobuf message's sizes are 31 bits. */
const LARGEST = 2 ** 31 - 1;

/**
 * A model from an ONNX file (opset 9 to 24): bytes, or a path in Node. It is checked as a whole before it is returned, and nothing runs.
 * Throws FormatError for a file that is damaged or names data that is not there, UnsupportedKernel naming every node whose operator is
 * not computed here (docs/onnx-import.md), OptionError for options that do not fit.
 */
export function loadOnnx(input: NowInput, options?: LoadOnnxOptions): OnnxModule {
  const { outputs, externalData } = readOptions("loadOnnx", options, {
    outputs: undefined as readonly string[] | undefined,
    externalData: undefined as ExternalData | undefined,
  });
  if (outputs !== undefined && (!Array.isArray(outputs) || outputs.length === 0)) {
    throw new OptionError({ rule: "loadOnnx: outputs is a list of names", got: String(outputs) });
  }
  const source = openNow(input);
  try {
    const { name: file, size } = source;
    if (size > LARGEST) {
      const fix = "Save the model with its weights as external data";
      throw damaged(file, 0, { rule: "An ONNX file has less than 2 GiB", got: `${size} bytes`, fix });
    }
    const model = decoded(source.readNow(0, size), file);
    const external = externalFrom(typeof input === "string" ? input : null, file, externalData);
    return new OnnxModule(compile(model, { file, size, external, outputs }));
  } finally {
    source.close();
  }
}

function decoded(bytes: Uint8Array, file: string) {
  try {
    return fromBinary(ModelSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    const got = error instanceof Error ? error.message : String(error);
    throw damaged(file, 0, { rule: "An ONNX file is one message of protobuf", got }, error);
  }
}

/** How data in other files is read: from what the caller gave, or from beside the model. */
function externalFrom(path: string | null, file: string, given: ExternalData | undefined): ExternalBytes {
  return (location, offset, length) => {
    const at = `external data ${JSON.stringify(location)}`;
    const bytes = given === undefined ? null : givenBytes(given, location);
    if (bytes) {
      const to = length === null ? bytes.length : offset + length;
      checkRange(offset, to, { name: `${file}, ${at}`, size: bytes.length });
      return bytes.subarray(offset, to);
    }
    if (path === null || given !== undefined) {
      const rule = "Data in other files is given with { externalData }, by name";
      throw damaged(file, at, { rule, got: "none of this name" });
    }
    const source = openFile(besideFile(path, location));
    try {
      return source.readNow(offset, length === null ? source.size : offset + length);
    } finally {
      source.close();
    }
  };
}

function givenBytes(given: ExternalData, location: string): Uint8Array | null {
  const found =
    typeof given === "function"
      ? given(location)
      : given instanceof Map
        ? given.get(location)
        : Object.hasOwn(given, location)
          ? (given as Readonly<Record<string, Uint8Array>>)[location]
          : undefined;
  if (found === undefined || found === null) return null;
  if (found instanceof Uint8Array) return found;
  throw new OptionError({ rule: `externalData gives bytes for ${JSON.stringify(location)}`, got: typeof found });
}
