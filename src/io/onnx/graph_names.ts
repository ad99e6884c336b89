import { OptionError } from "../../base/errors.js";
import { nearestName } from "../../base/options.js";
import { damaged } from "../damage.js";
import type { InputInfo } from "./plan.js";
import type { Graph, SparseTensor, Tensor as TensorProto, ValueInfo } from "./proto/onnx_pb.js";
import { elementNameOf } from "./tensor_proto.js";

/** Initializers by name, not read yet. */
export type Stored = ReadonlyMap<string, TensorProto | SparseTensor>;

/** A graph's initializers. Throws FormatError for one without a name, and for two of one name. */
export function storedIn(graph: Graph, file: string, inside = ""): Stored {
  const named = [
    ...graph.initializer.map((t) => [t.name, t] as const),
    ...graph.sparseInitializer.map((t) => [t.values?.name ?? "", t] as const),
  ];
  const stored = new Map<string, TensorProto | SparseTensor>(named);
  if (stored.size === named.length && !stored.has("")) return stored;
  const name = JSON.stringify(named.find(([n, t]) => stored.get(n) !== t)?.[0] ?? "");
  throw damaged(file, `${inside}initializer ${name}`, { rule: "Each initializer has a name of its own", got: name });
}

/** A graph's inputs, bar initializers, which older files list among them. */
export function describedInputs(graph: Graph, stored: Stored, file: string): Omit<InputInfo, "edge">[] {
  const seen = new Set<string>();
  return graph.input.flatMap((info) => {
    const at = `input ${JSON.stringify(info.name)}`;
    if (info.name === "" || seen.has(info.name)) {
      throw damaged(file, at, { rule: "Each input has a name of its own", got: at });
    }
    seen.add(info.name);
    return stored.has(info.name) ? [] : [{ name: info.name, ...described(info, file, at) }];
  });
}

function described(info: ValueInfo, file: string, at: string): Pick<InputInfo, "type" | "shape"> {
  const value = info.type?.value;
  if (value?.case !== "tensorType") throw damaged(file, at, { rule: "Inputs are tensors", got: "no tensor type" });
  const { elemType, shape } = value.value;
  const type = elementNameOf(elemType, file, at);
  if (!shape) return { type, shape: null };
  const dims = shape.dim.map(({ value: dim }) => {
    if (dim.case !== "dimValue") return dim.case === "dimParam" && dim.value ? dim.value : null;
    if (dim.value >= 0n && dim.value < 2n ** 53n) return Number(dim.value);
    throw damaged(file, at, { rule: "Lengths are whole numbers from 0 on", got: String(dim.value) });
  });
  return { type, shape: dims };
}

/** The values to end at: those asked for, which must be among the `known`, or the file's. */
export function outputNames(
  graph: Graph,
  asked: readonly string[] | undefined,
  known: readonly string[],
  file: string,
): string[] {
  const names = asked ?? graph.output.map((o) => o.name);
  if (!asked && names.length === 0) throw damaged(file, "graph", { rule: "A graph has outputs", got: "none" });
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  const rule = "Each output is named once";
  if (twice !== undefined && asked) throw new OptionError({ rule: `loadOnnx: ${rule.toLowerCase()}`, got: twice });
  if (twice !== undefined) throw damaged(file, "graph", { rule, got: JSON.stringify(twice) });
  const set = new Set(asked ? known : names);
  for (const name of names) {
    if (set.has(name)) continue;
    const near = typeof name === "string" ? nearestName(name, known) : undefined;
    const fix = near ? { fix: `Did you mean "${near}"?` } : {};
    throw new OptionError({ rule: "loadOnnx: outputs names values of the model", got: String(name), ...fix });
  }
  return [...names];
}
