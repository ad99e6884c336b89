import { fromBinary } from "@bufbuild/protobuf";
import { besideFile, openFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { damaged } from "../damage.js";
import { type ByteSource, checkRange } from "../source/byte_source.js";
import { isNow, type LaterInput, type NowInput, openNow, openSource } from "../source/open.js";
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
 * A model from an ONNX file (opset 9 to 24): bytes, or a path in Node, at once; a Blob, a URL or what `fetch` gives, as a promise. It is
 * checked as a whole before it is returned, and nothing runs.
 * Throws FormatError for a file that is damaged or names data that is not there, UnsupportedKernel naming every node whose operator is
 * not computed here (docs/onnx-import.md), OptionError for options that do not fit.
 */
export function loadOnnx(input: NowInput, options?: LoadOnnxOptions): OnnxModule;
export function loadOnnx(input: LaterInput, options?: LoadOnnxOptions): Promise<OnnxModule>;
export function loadOnnx(input: NowInput | LaterInput, options?: LoadOnnxOptions): OnnxModule | Promise<OnnxModule> {
  const checked = readOptions("loadOnnx", options, {
    outputs: undefined as readonly string[] | undefined,
    externalData: undefined as ExternalData | undefined,
  });
  const { outputs } = checked;
  if (outputs !== undefined && (!Array.isArray(outputs) || outputs.length === 0)) {
    throw new OptionError({ rule: "loadOnnx: outputs is a list of names", got: String(outputs) });
  }
  if (!isNow(input)) return loadLater(input, checked);
  const source = openNow(input);
  try {
    checkSize(source);
    const path = typeof input === "string" ? input : null;
    return moduleOf(source.readNow(0, source.size), source.name, path, checked);
  } finally {
    source.close();
  }
}

async function loadLater(input: LaterInput, options: Options): Promise<OnnxModule> {
  const source = await openSource(input, { whole: true });
  try {
    checkSize(source);
    const bytes = await source.read(0, source.size);
    const isFile = input instanceof URL && input.protocol === "file:";
    return moduleOf(bytes, source.name, isFile ? source.name : null, options);
  } finally {
    source.close();
  }
}

function checkSize({ name, size }: ByteSource): void {
  if (size <= LARGEST) return;
  const fix = "Save the model with its weights as external data";
  throw damaged(name, 0, { rule: "An ONNX file has less than 2 GiB", got: `${size} bytes`, fix });
}

interface Options {
  readonly outputs: readonly string[] | undefined;
  readonly externalData: ExternalData | undefined;
}

function moduleOf(
  bytes: Uint8Array,
  file: string,
  path: string | null,
  { outputs, externalData }: Options,
): OnnxModule {
  const model = decoded(bytes, file);
  const external = externalFrom(path, file, externalData);
  return new OnnxModule(compile(model, { file, size: bytes.length, external, outputs }));
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
