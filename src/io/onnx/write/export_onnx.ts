import { writeFile } from "#files";
import { DeviceError, describeValue, OptionError } from "../../../base/errors.js";
import { checkBoolean, checkChoice, checkNumber, readOptions, unknownName } from "../../../base/options.js";
import { scope } from "../../../memory/scope.js";
import { Module } from "../../../nn/index.js";
import { align, type Batch, timesBatch } from "./align.js";
import { checkNames, type Example, otherExample, readExample } from "./example.js";
import { type Folded, foldNorms } from "./fold.js";
import { Graph } from "./graph.js";
import { opsets, type Port, writeModel } from "./model_proto.js";
import { type Recorded, record } from "./record.js";
import { dropUnused, mergeBiases, spellOutBatchNorms } from "./tidy.js";

export interface OnnxReport {
  readonly opset: number;
  /** How many nodes there are of each operator. */
  readonly operators: Readonly<Record<string, number>>;
  /** What `fold` has folded: paths of modules. */
  readonly folded: readonly Folded[];
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
}

/** Name and type of an input or output; lengths that follow the batch are names. */
export interface OnnxPort {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

export interface ExportOnnxOptions {
  /** Puts each BatchNormalization that follows a Conv, ConvTranspose or Gemm alone into its weights. Default false. */
  readonly fold?: boolean;
  /**
   * Writes normalizations out, so that they keep their digits where a mean is much larger than the spread; runtimes' own
   * operators lose them. Default false: ONNX's operators, which run faster.
   */
  readonly accurate?: boolean;
  /** 13 to 24. Default 17, the first with LayerNormalization, which runtimes of 2022 and later run. */
  readonly opset?: number;
  /**
   * The file takes any batch size: axis 0 of every input, or the axis that is given for an input by name (inputs that are not named
   * keep their shape). Default false: all shapes are those of the example.
   */
  readonly dynamicBatch?: boolean | Readonly<Record<string, number>>;
  /** Default: "input", or input_0, input_1 and so on; tensors in an object of options have their names there. */
  readonly inputNames?: readonly string[];
  /** Default: "output", or the names under which forward returned tensors: output_0, output_weights and so on. */
  readonly outputNames?: readonly string[];
  /** What int32 inputs (class or token numbers) are in the file: "int64" is what other exporters write. Default "int32". */
  readonly integers?: "int32" | "int64";
  /** Where to write the file (Node): whole, or not at all. */
  readonly path?: string;
  /** The name of a file beside `path` for the weights, for models of 2 GiB and more. */
  readonly externalData?: string;
  /** Is told what was written. */
  readonly report?: (report: OnnxReport) => void;
}

/**
 * A model as an ONNX file, as it evaluates: what its forward does with `exampleInput` (a tensor, or the list of its arguments) is
 * followed op by op, so that any forward made of layers and tensor methods is exported. Returns the file's bytes; of a model with
 * externalData those of the graph alone. The model, its modes and its state stay as they are.
 *
 * The model runs twice, the second time with other numbers (with dynamicBatch also in two batch sizes of its own): what differs then
 * has not been computed by ops, and is refused. Numbers that do not depend on the input are written as they are, parameters under
 * their names in stateDict. A model is float64 in the file if its parameters or inputs are; else all floating-point numbers are
 * float32, also where Evenkeel has statistics in float64.
 *
 * Throws UnsupportedKernel for an op without a form in ONNX, with the module's path; FormatError for results or constants that did not
 * come from ops; DeviceError for a model on another device; StateError for numbers changed in place; OptionError; FileError.
 * Source: ONNX, docs/IR.md and docs/Operators.md.
 */
export function exportOnnx(model: Module, exampleInput: unknown, options?: ExportOnnxOptions): Uint8Array {
  const o = readOptions("exportOnnx", options, {
    fold: false,
    accurate: false,
    opset: 17,
    dynamicBatch: false as boolean | Readonly<Record<string, number>>,
    inputNames: undefined as readonly string[] | undefined,
    outputNames: undefined as readonly string[] | undefined,
    integers: "int32" as "int32" | "int64",
    path: undefined as string | undefined,
    externalData: undefined as string | undefined,
    report: undefined as ((report: OnnxReport) => void) | undefined,
  });
  checkBoolean("exportOnnx: fold", o.fold);
  checkBoolean("exportOnnx: accurate", o.accurate);
  checkChoice("exportOnnx: integers", o.integers, ["int32", "int64"]);
  const range = `a whole number from ${opsets[0]} to ${opsets[opsets.length - 1]}`;
  checkNumber("exportOnnx: opset", o.opset, range, (v) => opsets.includes(v));
  checkPlaces(o.path, o.externalData);
  checkOnCPU(model);
  const example = readExample(exampleInput, o.inputNames);
  const axes = batchAxes(example, o.dynamicBatch);
  const written = scope(() => {
    const recorded = recordTwice(model, example, axes, o);
    try {
      return finish(recorded, example, o);
    } finally {
      recorded.run.release();
    }
  });
  if (o.path !== undefined) {
    if (o.externalData !== undefined && written.external.length > 0)
      writeFile(beside(o.path, o.externalData), written.external);
    writeFile(o.path, [written.model]);
  }
  return written.model;
}

/** The file that stands beside another, under a name without folders. */
const beside = (path: string, name: string): string => path.replace(/[^/\\]*$/, () => name);

function checkPlaces(path: unknown, externalData: unknown): void {
  if (path !== undefined && (typeof path !== "string" || path === "")) {
    throw new OptionError({ rule: "exportOnnx: path must be the path of a file", got: describeValue(path) });
  }
  if (externalData === undefined) return;
  const isName = typeof externalData === "string" && /^[^/\\]+$/.test(externalData) && !/^\.\.?$/.test(externalData);
  if (isName && typeof path === "string" && !path.endsWith(`/${externalData}`) && path !== externalData) return;
  throw new OptionError({
    rule: "exportOnnx: externalData must be the name of a file beside the one at path, which is given too",
    got: `externalData ${JSON.stringify(externalData)} and path ${JSON.stringify(path)}`,
  });
}

function checkOnCPU(model: unknown): asserts model is Module {
  if (!(model instanceof Module)) {
    const fix = "Wrap a function in a class that extends nn.Module";
    throw new OptionError({ rule: "exportOnnx takes a module", got: describeValue(model), fix });
  }
  const away = [...model.parameters(), ...model.buffers()].find((t) => t.device !== "cpu");
  if (!away) return;
  throw new DeviceError({
    rule: "exportOnnx reads a model's numbers, which must lie on the CPU",
    got: `a model on ${away.device}`,
    fix: "Call await model.toCPU() first, and model.to(device) afterwards",
  });
}

/** For each input the axis that is its batch, null where its shape is fixed; null if all are. */
function batchAxes(example: Example, given: boolean | Readonly<Record<string, number>>): (number | null)[] | null {
  if (given === false) return null;
  const names = example.inputs.map(({ name }) => name);
  const named = given === true ? Object.fromEntries(names.map((name) => [name, 0])) : given;
  if (named === null || typeof named !== "object") {
    throw new OptionError({
      rule: "exportOnnx: dynamicBatch is true, false, or an axis for each input by name",
      got: String(given),
    });
  }
  const unknown = Object.keys(named).find((name) => !names.includes(name));
  if (unknown) throw unknownName(`exportOnnx: dynamicBatch names inputs (${names.join(", ")})`, unknown, names);
  return example.inputs.map(({ name, tensor }) => {
    const axis = Object.hasOwn(named, name) ? named[name]! : null;
    if (axis === null || (Number.isInteger(axis) && axis >= 0 && axis < tensor.rank)) return axis;
    throw new OptionError({
      rule: `exportOnnx: dynamicBatch gives an axis of ${name}, from 0 to ${tensor.rank - 1}`,
      got: String(axis),
    });
  });
}

interface Runs {
  readonly run: Recorded;
  readonly batch: Batch | null;
  /** Lengths of each output in the second run. */
  readonly others: readonly (readonly number[])[];
  readonly otherInputs: readonly (readonly number[])[];
}

type Settings = { readonly opset: number; readonly integers: "int32" | "int64"; readonly fold: boolean } & {
  readonly accurate: boolean;
  readonly outputNames: readonly string[] | undefined;
  readonly externalData: string | undefined;
  readonly report: ((report: OnnxReport) => void) | undefined;
};

/** Batch sizes that no length of the inputs or parameters is equal to, so that nothing happens to fit. */
function batchSizes(model: Module, { inputs }: Example): [number, number] {
  const lengths = new Set([...inputs.map(({ tensor }) => tensor), ...model.parameters()].flatMap(({ shape }) => shape));
  const free: number[] = [];
  for (let n = 3; free.length < 2; n++) if (!lengths.has(n)) free.push(n);
  return free as [number, number];
}

function recordTwice(model: Module, example: Example, axes: (number | null)[] | null, o: Settings): Runs {
  const wide =
    example.inputs.some(({ tensor }) => tensor.dtype === "float64") ||
    model.parameters().some(({ dtype }) => dtype === "float64");
  const run = ({ args, inputs }: Example) => {
    const graph = new Graph(o.opset, wide ? "float64" : "float32", o.accurate);
    return record(
      graph,
      model,
      args,
      inputs.map((input) => ({ ...input, integers: o.integers })),
    );
  };
  const names = example.inputs.map(({ name }) => name);
  const axisOf = (name: string) => axes?.[names.indexOf(name)] ?? null;
  const input = axes?.findIndex((axis) => axis !== null) ?? -1;
  const batch: Batch | null = input < 0 ? null : { sizes: batchSizes(model, example), input, axis: axes![input]! };
  // A copy: layers that work in place write over what they are given.
  const first = run(otherExample(example, axisOf, batch?.sizes[0] ?? 0, false));
  try {
    const second = run(otherExample(example, axisOf, batch?.sizes[1] ?? 0, true));
    try {
      // What nothing is made of need not be the same: moments that only running statistics would follow, for one.
      for (const { graph, outputs } of [first, second]) dropUnused(graph, outputs);
      align(first, second, batch);
      const others = second.outputs.map(({ value }) => value.shape);
      return { run: first, batch, others, otherInputs: second.inputs.map(({ shape }) => shape) };
    } finally {
      second.release();
    }
  } catch (error) {
    first.release();
    throw error;
  }
}

function finish({ run, batch, others, otherInputs }: Runs, example: Example, o: Settings) {
  const { graph } = run;
  const outputs = [...run.outputs];
  mergeBiases(graph, outputs);
  const folded = o.fold ? foldNorms(graph, outputs) : [];
  if (o.accurate) spellOutBatchNorms(graph, outputs);
  const natural = outputs.map(({ key }) => (key === "" ? "output" : `output_${key}`));
  const names = checkNames("outputNames", o.outputNames, natural);
  const lengths = (a: readonly number[], b: readonly number[]) =>
    a.map((d, i) => {
      const times = batch && d !== b[i] ? timesBatch(d, b[i]!, batch) : null;
      return times === null ? d : times === 1 ? "batch" : `${times}*batch`;
    });
  const port = (name: string, value: Port["value"], other: readonly number[]): Port => {
    return { name, value, lengths: lengths(value.shape, other) };
  };
  const given = run.inputs.map((value, i) => port(example.inputs[i]!.name, value, otherInputs[i]!));
  const made = outputs.map(({ value }, i) => port(names[i]!, value, others[i]!));
  checkApart(given, made);
  const metadata =
    folded.length > 0 ? { folded: folded.map(({ norm, layer }) => `${norm} into ${layer}`).join("; ") } : {};
  const written = writeModel(graph, given, made, { name: "evenkeel", metadata, external: o.externalData ?? null });
  o.report?.({ opset: o.opset, operators: countOf(graph), folded, inputs: given.map(shown), outputs: made.map(shown) });
  return written;
}

function checkApart(inputs: readonly Port[], outputs: readonly Port[]): void {
  const both = outputs.find(({ name }) => inputs.some((input) => input.name === name));
  if (!both) return;
  throw new OptionError({ rule: "exportOnnx: inputs and outputs have different names", got: `"${both.name}" twice` });
}

function countOf({ nodes }: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op } of nodes) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}

const shown = ({ name, value, lengths }: Port): OnnxPort => ({ name, type: value.type, shape: lengths });
