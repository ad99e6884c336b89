import { Tensor } from "../../autograd/index.js";
import { EvenkeelError, FormatError } from "../../base/errors.js";
import { own, scope } from "../../memory/scope.js";
import { damaged } from "../damage.js";
import { type Attributes, readAttributes } from "./attributes.js";
import { Call } from "./call.js";
import { Functions } from "./functions.js";
import { describedInputs, outputNames, type Stored, storedIn } from "./graph_names.js";
import { ordered } from "./node_order.js";
import type { Moved, Operator } from "./operator.js";
import { operatorAt } from "./operators/index.js";
import { type Branch, Edge, type InputInfo, markLearned, markReleases, type Plan, type Step } from "./plan.js";
import type { Attribute, Graph, Model, Node, SparseTensor, Tensor as TensorProto } from "./proto/onnx_pb.js";
import { readSparse } from "./sparse.js";
import { checkSupported, type Opsets, opsetsOf, versionOf } from "./supported.js";
import { type ExternalBytes, readTensor } from "./tensor_proto.js";
import { int64, toValue, type Value, Whole, withRoom } from "./value.js";

/** What is computed when a model is loaded: from inputs of at most this many elements, */
const FOLDED_INPUT = 1024;
/** to results of so many in all, beside one for each byte of the file. */
const FOLDED_ROOM = 65536;
/** Nodes that functions may add up to: they can call each other twice, and those again. */
const MOST_STEPS = 200_000;
const DEEPEST = 64;

/** Names of a graph that is being compiled, and of those around it. */
interface Names {
  readonly edges: Map<string, Edge>;
  readonly stored: Stored;
  readonly outer: Names | null;
}

/** Where the nodes stand that are being compiled. */
interface Place {
  readonly opsets: Opsets;
  readonly names: Names;
  /** Attributes of the call of a function, by name, for nodes in it that refer to them. */
  readonly attributes: ReadonlyMap<string, Attribute>;
  readonly inside: string;
  readonly calls: readonly string[];
}

/** A model as steps to run, checked as a whole. Throws FormatError; UnsupportedKernel with all operators that are not there. */
export function compile(
  model: Model,
  options: {
    readonly file: string;
    readonly size: number;
    readonly external?: ExternalBytes;
    readonly outputs?: readonly string[] | undefined;
  },
): Plan {
  return new Compiler(model, options).compile();
}

class Compiler {
  private readonly file: string;
  private readonly functions: Functions;
  private readonly made: Tensor[] = [];
  private readonly initializers = new Map<string, Edge>();
  private edges = 0;
  private count = 0;
  private room: number;
  private steps: Step[] = [];

  constructor(
    private readonly model: Model,
    private readonly options: Parameters<typeof compile>[1],
  ) {
    this.file = options.file;
    this.functions = new Functions(model.functions, this.file);
    this.room = FOLDED_ROOM + options.size;
  }

  compile(): Plan {
    const { graph } = this.model;
    if (!graph) throw damaged(this.file, 0, { rule: "An ONNX model has a graph", got: "none" });
    try {
      return this.planOf(graph);
    } catch (error) {
      for (const t of this.made) t.dispose();
      throw error;
    }
  }

  private planOf(graph: Graph): Plan {
    const stored = storedIn(graph, this.file);
    const names: Names = { edges: new Map(), stored, outer: null };
    const opsets = opsetsOf(this.model.opsetImport, this.file);
    const inputs = describedInputs(graph, stored, this.file).map((info): InputInfo => {
      const edge = this.edge(info.name);
      names.edges.set(info.name, edge);
      return { ...info, edge };
    });
    const valueNames = [...new Set([...inputs.map((i) => i.name), ...graph.node.flatMap((n) => n.output)])].filter(
      (n) => n !== "",
    );
    const wanted = outputNames(graph, this.options.outputs, [...valueNames, ...stored.keys()], this.file);
    const nodes = ordered(graph.node, wanted, this.file);
    for (const { node, place } of nodes) {
      const taken = node.output.find((name) => names.edges.has(name) || stored.has(name));
      if (taken)
        throw this.wrong(
          place,
          `The value ${JSON.stringify(taken)} is made once`,
          "an input or initializer of its name",
        );
    }
    checkSupported(nodes, opsets, this.functions, this.file);
    const place: Place = { opsets, names, attributes: new Map(), inside: "", calls: [] };
    for (const { node, place: at } of nodes) this.add(node, at, place);
    const outputs = wanted.map((name) => ({ name, edge: this.find(name, names, `output ${JSON.stringify(name)}`) }));
    markLearned(this.steps);
    markReleases(this.steps, new Set(outputs.map((o) => o.edge)));
    const steps = this.steps;
    const { made: tensors, initializers, edges: size } = this;
    return { inputs, outputs, steps, size, initializers, tensors, names: valueNames };
  }

  private wrong(at: string, rule: string, got: string): FormatError {
    return damaged(this.file, at, { rule, got });
  }

  private edge(name: string): Edge {
    return new Edge(this.edges++, name);
  }

  private keep(value: Value): Value {
    if (value instanceof Tensor) this.made.push(own(value));
    return value;
  }

  /** The edge of a name, in this graph or around it; an initializer is read when it is first asked for. */
  private find(name: string, names: Names, at: string): Edge {
    for (let n: Names | null = names; n; n = n.outer) {
      const edge = n.edges.get(name);
      if (edge) return edge;
      const proto = n.stored.get(name);
      if (!proto) continue;
      const read = this.readStored(name, proto);
      n.edges.set(name, read);
      return read;
    }
    throw this.wrong(
      at,
      "What a node reads is an input, an initializer, or made by another node",
      `no value ${JSON.stringify(name)}`,
    );
  }

  private readStored(name: string, proto: TensorProto | SparseTensor): Edge {
    const at = `initializer ${JSON.stringify(name)}`;
    const { external } = this.options;
    const data =
      "dataType" in proto ? readTensor(proto, this.file, at, external) : readSparse(proto, this.file, at, external);
    const edge = this.edge(name);
    edge.value = this.keep(toValue(data));
    if (edge.value instanceof Whole) return edge;
    // A name may come again in a branch.
    edge.initializer = this.initializers.has(name) ? `${name}#${edge.id}` : name;
    this.initializers.set(edge.initializer, edge);
    return edge;
  }

  private add(node: Node, at: string, place: Place): void {
    if (++this.count > MOST_STEPS) throw this.wrong(at, `Functions add up to at most ${MOST_STEPS} nodes`, "more");
    const attributes = resolved(node.attribute, place.attributes);
    const called = this.functions.find(node);
    if (called) {
      this.inline(called, node, attributes, at, place);
      return;
    }
    const input = trimmed(node.input).map((name) => (name === "" ? null : this.find(name, place.names, at)));
    if (node.opType === "If") {
      this.branch(node, input, attributes, at, place);
      return;
    }
    const opset = versionOf(place.opsets, node.domain);
    const operator = operatorAt(node.domain, node.opType, opset) as Operator;
    const { inputs, values } = this.shaped(operator, input, attributes, opset, at);
    const output = trimmed(node.output);
    if (output.length > (operator.outputs ?? 1)) {
      throw this.wrong(at, `This operator has at most ${operator.outputs ?? 1} outputs`, String(output.length));
    }
    const outputs = output.map((name) => (name === "" ? null : this.define(name, place.names)));
    if (outputs.length === 0 || this.folded(operator, inputs, values, outputs, at)) return;
    this.steps.push({ place: at, operator, attributes: values, inputs, outputs, release: [] });
  }

  private define(name: string, names: Names): Edge {
    const edge = this.edge(name);
    names.edges.set(name, edge);
    return edge;
  }

  /** Inputs and attributes in the form of the newest version, their number checked. */
  private shaped(
    operator: Operator,
    input: readonly (Edge | null)[],
    given: readonly Attribute[],
    opset: number,
    at: string,
  ) {
    const moved = Object.entries(operator.moved ?? {}).filter(([, m]) => opset < m.at);
    const specs = Object.fromEntries(moved.map(([name, { kind }]) => [name, { kind }]));
    const values = readAttributes(given, { ...operator.attributes, ...specs }, opset, this.file, at);
    const most = Math.min(operator.inputs[1], ...moved.map(([, m]) => m.input));
    const least = Math.min(operator.inputs[0], most);
    if (input.length < least || input.length > most || input.slice(0, least).includes(null)) {
      const range = least === most ? String(least) : `${least} to ${most}`;
      throw this.wrong(at, `This operator has ${range} inputs at opset ${opset}`, String(input.filter(Boolean).length));
    }
    const inputs = [...input];
    for (const [name, m] of moved) {
      const value = values.get(name) ?? m.fallback;
      while (inputs.length <= m.input) inputs.push(null);
      if (value === undefined) continue;
      const edge = this.edge(name);
      edge.value = this.keep(constantOf(m, value as number | number[]));
      inputs[m.input] = edge;
    }
    const missing = inputs.slice(0, operator.inputs[0]).indexOf(null);
    if (missing >= 0) {
      const name = moved.find(([, m]) => m.input === missing)?.[0];
      throw this.wrong(at, name ? `The attribute ${name} is needed` : `Input ${missing} is needed`, "none");
    }
    return { inputs, values };
  }

  /** Computes what depends on constants alone, where that is small. */
  private folded(
    operator: Operator,
    inputs: readonly (Edge | null)[],
    attributes: Attributes,
    outputs: readonly (Edge | null)[],
    at: string,
  ): boolean {
    if (operator.varies || inputs.some((e) => e && (e.value === null || e.initializer !== null))) return false;
    const values = inputs.map((e) => e?.value ?? null);
    const elements = values.reduce((n, v) => n + (v?.size ?? 0), 0);
    if (elements > FOLDED_INPUT) return false;
    let result: readonly (Value | null)[];
    try {
      const call = new Call(values, attributes, outputs.length, false);
      // What a constant holds stands in the file, and needs no room beside it.
      const room = inputs.length === 0 ? Number.POSITIVE_INFINITY : this.room;
      const made = scope(() => withRoom(room, () => operator.run(call)));
      result = Array.isArray(made) ? made : [made];
    } catch (error) {
      if (error instanceof FormatError && error.complaint)
        throw this.wrong(at, error.complaint.rule, error.complaint.got);
      // What it says against these inputs, it says when the model runs, if this node is reached at all.
      if (error instanceof EvenkeelError || error instanceof RangeError) return false;
      throw error;
    }
    if (outputs.some((e, i) => e && !result[i])) return false;
    for (const [i, edge] of outputs.entries()) {
      if (!edge) continue;
      edge.value = this.keep(result[i]!);
      if (inputs.length > 0) this.room = Math.max(0, this.room - edge.value.size);
    }
    return true;
  }

  private inline(
    called: NonNullable<ReturnType<Functions["find"]>>,
    node: Node,
    given: readonly Attribute[],
    at: string,
    place: Place,
  ): void {
    const { proto, key } = called;
    if (place.calls.includes(key) || place.calls.length >= DEEPEST) {
      throw this.wrong(
        at,
        `Functions do not call themselves, and are nested at most ${DEEPEST} deep`,
        [...place.calls, key].join(" > "),
      );
    }
    const names: Names = { edges: new Map(), stored: new Map(), outer: null };
    const [input, output] = [trimmed(node.input), trimmed(node.output)];
    if (input.length > proto.input.length || output.length > proto.output.length) {
      throw this.wrong(
        at,
        `The function has ${proto.input.length} inputs and ${proto.output.length} outputs`,
        `${input.length} and ${output.length}`,
      );
    }
    // A missing input is one of no name inside as well.
    const absent = new Set<string>();
    for (const [i, name] of proto.input.entries()) {
      if (input[i]) names.edges.set(name, this.find(input[i]!, place.names, at));
      else absent.add(name);
    }
    const attributes = new Map([...proto.attributeProto, ...given].map((a) => [a.name, a]));
    const inside = `${at}, `;
    const inner: Place = { opsets: called.opsets, names, attributes, inside, calls: [...place.calls, key] };
    for (const { node: n, place: where } of ordered(proto.node, null, this.file, inside)) {
      const reads = absent.size > 0 ? { ...n, input: n.input.map((name) => (absent.has(name) ? "" : name)) } : n;
      this.add(reads, where, inner);
    }
    for (const [i, name] of output.entries()) {
      if (name !== "") place.names.edges.set(name, this.find(proto.output[i]!, names, at));
    }
  }

  private branch(
    node: Node,
    input: readonly (Edge | null)[],
    given: readonly Attribute[],
    at: string,
    place: Place,
  ): void {
    const specs = {
      then_branch: { kind: "graph", required: true },
      else_branch: { kind: "graph", required: true },
    } as const;
    const attributes = readAttributes(given, specs, 1, this.file, at);
    const [condition] = input;
    if (!condition || input.length !== 1) throw this.wrong(at, "If has one input", String(input.length));
    const output = trimmed(node.output);
    const graphs = ["then_branch", "else_branch"].map((name) => attributes.get(name) as Graph);
    const known = condition.value;
    if (known instanceof Whole && known.size === 1) {
      const edges = this.graph(graphs[known.data[0] !== 0 ? 0 : 1]!, output.length, at, place);
      for (const [i, name] of output.entries()) if (name !== "") place.names.edges.set(name, edges[i]!);
      return;
    }
    const around = this.steps;
    const branches = graphs.map((graph): Branch => {
      this.steps = [];
      const outputs = this.graph(graph, output.length, at, place);
      return { steps: this.steps, outputs };
    }) as [Branch, Branch];
    this.steps = around;
    const outputs = output.map((name) => (name === "" ? null : this.define(name, place.names)));
    this.steps.push({ place: at, condition, branches, outputs, release: [] });
  }

  /** A branch's nodes, and the edges of its outputs. */
  private graph(graph: Graph, outputs: number, at: string, place: Place): Edge[] {
    if (graph.output.length !== outputs || graph.input.length > 0) {
      throw this.wrong(
        at,
        `A branch has no inputs and ${outputs} outputs`,
        `${graph.input.length} and ${graph.output.length}`,
      );
    }
    const inside = `${at}, `;
    const names: Names = { edges: new Map(), stored: storedIn(graph, this.file, inside), outer: place.names };
    for (const { node, place: where } of ordered(graph.node, null, this.file, inside)) {
      this.add(node, where, { ...place, names, inside });
    }
    return graph.output.map(({ name }) => this.find(name, names, at));
  }
}

/** Names without the empty ones at the end, which stand for what is not there. */
function trimmed(names: readonly string[]): string[] {
  const list = [...names];
  while (list.length > 0 && list[list.length - 1] === "") list.pop();
  return list;
}

/** Attributes of a function's node, with those of the call in the place of references. */
function resolved(attributes: readonly Attribute[], given: ReadonlyMap<string, Attribute>): Attribute[] {
  return attributes.flatMap((a) => {
    if (a.refAttrName === "") return [a];
    const value = given.get(a.refAttrName);
    return value ? [{ ...value, name: a.name }] : [];
  });
}

function constantOf({ kind }: Moved, value: number | number[]): Value {
  if (kind === "ints") return int64(value as number[]);
  if (kind === "int") return int64([value as number], []);
  const data = Float32Array.from([value].flat());
  return toValue({ shape: kind === "float" ? [] : [data.length], type: "float32", data });
}
