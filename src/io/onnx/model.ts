import { copyOnCPU, Tensor } from "../../autograd/index.js";
import { type DType, isFloating } from "../../base/dtype.js";
import { DTypeError, describeValue, OptionError, ShapeError } from "../../base/errors.js";
import { unknownName } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { type DeviceName, onDevice } from "../../memory/device.js";
import { disown, scope } from "../../memory/scope.js";
import { Module, Parameter } from "../../nn/module.js";
import type { Edge, InputInfo, Plan } from "./plan.js";
import { Run } from "./run.js";
import { computed, int32Tensor, isFloatType, limitsOf, noteNumbers, type Value, Whole } from "./value.js";

/** What a model takes under one name. */
export interface OnnxInput {
  readonly name: string;
  /** The element type in the file. Floats are given as float tensors, all else as int32. */
  readonly type: string;
  /** Lengths; a name stands for one length wherever it comes, null for any. Null in all where the file does not say. */
  readonly shape: readonly (number | string | null)[] | null;
}

/**
 * A model from an ONNX file as a module: `forward` for its inputs in order, giving the first output, `run` for all by name. Float
 * initializers that operators learn are its parameters under the file's names, running statistics its buffers. It begins in
 * evaluation; in training BatchNormalization uses and moves statistics of the batch, and Dropout drops.
 */
export class OnnxModule extends Module {
  readonly #plan: Plan;
  readonly #parameters = new Map<string, Parameter>();
  readonly #statistics = new Map<string, Tensor>();
  /** Floats that are neither: moved along with the others. */
  readonly #constants = new Set<Tensor>();

  constructor(plan: Plan) {
    super();
    this.#plan = plan;
    for (const [name, edge] of plan.initializers) {
      const value = edge.value as Tensor;
      if (edge.statistics) this.#statistics.set(name, value);
      // One number without axes is a constant of the formula.
      else if (edge.learned && value.rank > 0) {
        const parameter = new Parameter(value, { noWeightDecay: edge.affine });
        edge.value = parameter;
        this.#parameters.set(name, parameter);
      }
    }
    const state = new Set<Tensor>(this.#statistics.values());
    const used = new Set<Value | null>([...constantEdges(plan)].map((edge) => edge.value));
    for (const t of plan.tensors) {
      if (state.has(t) || t.disposed) continue;
      if (used.has(t)) this.#constants.add(t);
      // What served to compute another constant.
      else t.dispose();
    }
    this.eval();
  }

  /** Names of the inputs, in the file's order; initializers are not among them. */
  get inputNames(): string[] {
    return this.#plan.inputs.map((i) => i.name);
  }

  get outputNames(): string[] {
    return this.#plan.outputs.map((o) => o.name);
  }

  /** Types and shapes of the inputs. */
  get inputs(): OnnxInput[] {
    return this.#plan.inputs.map(({ name, type, shape }) => ({ name, type, shape }));
  }

  /** All values of the graph by name, in the file's order: what `loadOnnx(file, { outputs })` can end at. */
  get valueNames(): string[] {
    return [...this.#plan.names];
  }

  /**
   * All outputs by name. Inputs are float tensors, or int32 for whole numbers of any size and for truth values; outputs are the same.
   * Throws OptionError for a name that is missing or unknown, ShapeError and DTypeError for what the file does not take, naming the
   * input; any error of an operator names its node.
   */
  run(inputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
    const names = this.inputNames;
    if (inputs === null || typeof inputs !== "object" || inputs instanceof Tensor) {
      throw new OptionError({
        rule: `run takes { ${names.join(", ")} }`,
        got: describeValue(inputs),
        fix: "Use forward(x) for one tensor",
      });
    }
    const rule = `The model's inputs are ${names.map((n) => JSON.stringify(n)).join(", ") || "none"}`;
    for (const name of Object.keys(inputs)) if (!names.includes(name)) throw unknownName(rule, name, names);
    const missing = names.find((name) => !Object.hasOwn(inputs, name) || inputs[name] === undefined);
    if (missing !== undefined) throw new OptionError({ rule, got: `nothing for ${JSON.stringify(missing)}` });
    const results = this.#compute(names.map((name) => inputs[name]!));
    return Object.fromEntries(results.map((t, i) => [this.#plan.outputs[i]!.name, t]));
  }

  /** The first output, from the inputs in the file's order. */
  override forward(...inputs: Tensor[]): Tensor {
    const { inputs: infos } = this.#plan;
    if (inputs.length !== infos.length) {
      const rule = `forward takes ${infos.length} inputs: ${this.inputNames.join(", ")}`;
      throw new OptionError({ rule, got: String(inputs.length) });
    }
    const [first, ...others] = this.#compute(inputs);
    for (const other of others) if (other !== first) other.dispose();
    return first!;
  }

  #compute(inputs: readonly Tensor[]): Tensor[] {
    const { inputs: infos, outputs, steps, size } = this.#plan;
    const lengths = new Map<string, [number, string]>();
    const values = infos.map((info, i) => valueFor(info, inputs[i], lengths));
    const device = inputs.find((t) => isFloating(t.dtype))?.device ?? this.device;
    const run = new Run(size, this.training, (edge) => edge.value);
    return onDevice(device, () =>
      scope(() => {
        for (const [i, value] of values.entries()) run.put(infos[i]!.edge, value);
        run.steps(steps);
        const given = new Set<Tensor>([
          ...inputs,
          ...this.#parameters.values(),
          ...this.#statistics.values(),
          ...this.#constants,
        ]);
        return outputs.map(({ name, edge }) => {
          const value = run.get(edge);
          const t = value instanceof Whole ? namedOutput(name, () => int32Tensor(value)) : value;
          // What is somebody else's, or comes twice, leaves under a handle of its own.
          if (given.has(t)) return t.reshape(t.shape);
          given.add(t);
          return t;
        });
      }),
    );
  }

  protected override ownTensors(): { parameters: [string, unknown][]; buffers: [string, unknown][] } {
    return { parameters: [...this.#parameters], buffers: [...this.#statistics] };
  }

  override to(target: DeviceName | DType): this {
    super.to(target);
    if (target === "float16") return this;
    scope(() => {
      for (const t of this.#constants) {
        const moved = t.detach().to(target);
        noteNumbers(t);
        if (moved.dtype !== t.dtype || moved.device !== t.device) t.adopt(moved);
      }
    });
    return this;
  }

  override async toCPU(): Promise<this> {
    await super.toCPU();
    for (const t of this.#constants) {
      if (t.device === "cpu") continue;
      const copy = await copyOnCPU(t);
      t.adopt(copy);
      copy.dispose();
    }
    return this;
  }

  override dispose(): void {
    super.dispose();
    for (const t of this.#constants) disown(t).dispose();
  }
}

/** Edges whose values were known when the model was loaded. */
function constantEdges({ steps, outputs }: Plan): Set<Edge> {
  const found = new Set<Edge>();
  const visit = (edge: Edge | null): void => {
    if (edge?.value) found.add(edge);
  };
  const walk = (list: Plan["steps"]): void => {
    for (const step of list) {
      if ("operator" in step) for (const edge of step.inputs) visit(edge);
      else {
        visit(step.condition);
        for (const branch of step.branches) {
          walk(branch.steps);
          for (const edge of branch.outputs) visit(edge);
        }
      }
    }
  };
  walk(steps);
  for (const { edge } of outputs) visit(edge);
  return found;
}

/** "float32 [batch, 3, 224, 224]" */
const described = ({ type, shape }: InputInfo): string =>
  `${type} ${shape ? `[${shape.map((d) => d ?? "?").join(", ")}]` : "of any shape"}`;

/** An input as the graph takes it. Lengths of one name must agree, across inputs too. */
function valueFor(info: InputInfo, given: Tensor | undefined, lengths: Map<string, [number, string]>): Value {
  const rule = `Input ${JSON.stringify(info.name)} is ${described(info)}`;
  if (!(given instanceof Tensor))
    throw new DTypeError({ rule, got: describeValue(given), fix: "Make one with tensor(data)" });
  const got = `${given.dtype} ${formatShape(given.shape)}`;
  const { shape } = info;
  if (shape && (shape.length !== given.rank || shape.some((d, i) => typeof d === "number" && d !== given.shape[i]))) {
    throw new ShapeError({ rule, got });
  }
  for (const [i, d] of shape?.entries() ?? []) {
    if (typeof d !== "string") continue;
    const [length, where] = lengths.get(d) ?? [given.shape[i]!, info.name];
    lengths.set(d, [length, where]);
    if (length === given.shape[i]) continue;
    throw new ShapeError({ rule: `${rule}, where ${d} is ${length} from input ${JSON.stringify(where)}`, got });
  }
  if (isFloatType(info.type)) {
    if (isFloating(given.dtype)) return given;
    throw new DTypeError({ rule, got, fix: 'Use to("float32")' });
  }
  if (given.dtype !== "int32")
    throw new DTypeError({ rule, got, fix: "Whole numbers and truth values are given as int32" });
  const data = given.dataSync();
  const [least, most] = limitsOf(info.type);
  const wrong = data.findIndex((v) => v < least || v > most);
  if (info.type !== "bool" && wrong >= 0) throw new DTypeError({ rule, got: `${data[wrong]} at place ${wrong}` });
  const at = info.type === "bool" ? (i: number) => (data[i] !== 0 ? 1 : 0) : (i: number) => data[i]!;
  return computed(info.type, given.shape, at);
}

function namedOutput(name: string, make: () => Tensor): Tensor {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof DTypeError) || !error.complaint) throw error;
    throw new DTypeError({ ...error.complaint, got: `${error.complaint.got} of output ${JSON.stringify(name)}` });
  }
}
