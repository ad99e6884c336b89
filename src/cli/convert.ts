import { InvalidArgumentError } from "commander";
import type { ConvertOptions, KindOptions } from "../io/convert/index.js";
import { convertTensors, frameworkNames, layerKinds } from "../io/convert/index.js";
import { checkWritable, endingsOf, openTensors, saveTensors } from "../io/tensor_formats.js";
import type { AddCommand } from "./command_line.js";
import { say, textTable } from "./output.js";
import { count, oneOf } from "./values.js";

interface Options {
  readonly from?: ConvertOptions["from"];
  readonly to: ConvertOptions["to"];
  readonly key?: string;
  readonly template?: string;
  readonly rename?: Readonly<Record<string, string>>;
  readonly kind?: ConvertOptions["kinds"];
  readonly flatten?: ConvertOptions["flatten"];
  readonly dtype?: ConvertOptions["dtype"];
  readonly partial?: true;
  readonly json?: true;
}

const types = ["float64", "float32", "float16", "bfloat16"] as const;

export const convertCommand: AddCommand = (program, done) => {
  const frameworks = frameworkNames.join(", ");
  program
    .command("convert")
    .description("Give the tensors of a model's file the names and layouts of another framework.")
    .argument("<in>", `file to read: ${endingsOf("open")}`)
    .argument("<out>", `file to write: ${endingsOf("save")}`)
    .option(
      "--from <framework>",
      `whose names it has (default: what the names tell): ${frameworks}`,
      oneOf(frameworkNames),
    )
    .option("--to <framework>", `whose names it gets: ${frameworks}`, oneOf(frameworkNames), "evenkeel")
    .option("--key <name>", "part of a PyTorch checkpoint that is wanted, as model_state_dict")
    .option("--template <file>", "file of the wanted names: layers are found by name, else by shapes and order")
    .option(
      "--rename <from=to>",
      "new name of a layer, or of all that begins with it; again for more",
      assignments(text),
    )
    .option("--flatten <layer=C,H,W>", "linear layer after a flattened image, with its shape", assignments(shape))
    .option(
      "--kind <layer=kind>",
      `where tensors leave a doubt: ${layerKinds.join(", ")}, and heads=8, multiplier=2`,
      kinds,
    )
    .option("--dtype <type>", `what floats become (default: they stay as they are): ${types.join(", ")}`, oneOf(types))
    .option("--partial", "write also when the template is not filled, or tensors are left over")
    .option("--json", "end with one line of JSON on standard output")
    .action(async (from: string, to: string, options: Options) => done(await convert(from, to, options)));
};

async function convert(from: string, to: string, options: Options): Promise<number> {
  checkWritable(to);
  const source = await openTensors(from, { key: options.key });
  const template = options.template === undefined ? null : await openTensors(options.template);
  try {
    const { tensors, report } = await convertTensors(source, {
      ...{ from: options.from ?? null, to: options.to, template, dtype: options.dtype ?? null },
      ...{ rename: options.rename ?? {}, kinds: options.kind ?? {}, flatten: options.flatten ?? {} },
    });
    const complete = report.missing.length === 0 && report.leftOver.length === 0;
    const written = complete || options.partial === true;
    if (written) await saveTensors(tensors, to, template);
    say(textTable({ title: "", head: ["in", "out", "shape", "", "how"], rows: report.rows() }, "left"));
    for (const { layer, kind, options: o } of report.layers) say(`${layer}: ${kind} ${JSON.stringify(o)}`);
    say(`\n${report.summary()}${written ? `. Written: ${to}` : ""}`);
    if (!written) process.stderr.write(`evenkeel: ${to} is not written: ${unfilled(report)} (--partial writes it)\n`);
    if (options.json) {
      const { counts, entries, layers } = report;
      say(JSON.stringify({ from: report.from, to: report.to, written, counts, entries, layers }));
    }
    return written ? 0 : 1;
  } finally {
    source.close();
    template?.close();
  }
}

const unfilled = (report: { missing: readonly string[]; leftOver: readonly string[] }): string =>
  [
    ...(report.missing.length > 0 ? [`${report.missing.length} missing`] : []),
    ...(report.leftOver.length > 0 ? [`${report.leftOver.length} left over`] : []),
  ].join(", ");

/** A repeated option of the form name=value as one table. */
function assignments<T>(
  parse: (value: string) => T,
): (value: string, before?: Readonly<Record<string, T>>) => Record<string, T> {
  return (value, before) => {
    const at = value.lastIndexOf("=");
    if (at < 1) throw new InvalidArgumentError("It is of the form layer=value.");
    return { ...before, [value.slice(0, at)]: parse(value.slice(at + 1)) };
  };
}

const text = (value: string): string => value;

const shape = (value: string): number[] => {
  const lengths = value.split(",").map((part) => count(part.trim()));
  if (lengths.length < 2) throw new InvalidArgumentError("It is of the form layer=C,H,W.");
  return lengths;
};

/** "layer=kind", "layer=kind,heads=8", "layer=heads=8". */
function kinds(value: string, before?: NonNullable<ConvertOptions["kinds"]>): NonNullable<ConvertOptions["kinds"]> {
  const at = value.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It is of the form layer=kind.");
  const options: Record<string, unknown> = {};
  for (const part of value.slice(at + 1).split(",")) {
    const [word, number] = part.split("=") as [string, string?];
    if (number === undefined && (layerKinds as readonly string[]).includes(word)) options.kind = word;
    else if (number === undefined && (flags as readonly string[]).includes(word)) options[word] = true;
    else if (number !== undefined && (numbers as readonly string[]).includes(word)) options[word] = count(number);
    else throw new InvalidArgumentError(`It is of the form layer=kind, with a kind of ${layerKinds.join(", ")}.`);
  }
  return { ...before, [value.slice(0, at)]: options as KindOptions };
}

const flags = ["transposeKernel", "moveChannels"] as const;
const numbers = ["heads", "multiplier"] as const;
