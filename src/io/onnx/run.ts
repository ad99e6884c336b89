import { isRecording, Tensor } from "../../autograd/index.js";
import { type Complaint, DTypeError, EvenkeelError, OutOfMemoryError, ShapeError } from "../../base/errors.js";
import { scope } from "../../memory/scope.js";
import { Call } from "./call.js";
import type { BranchStep, Edge, OperatorStep, Step } from "./plan.js";
import { numbersIn, type Value, Whole } from "./value.js";

/** Values of one run by the numbers of their edges, and tensors that several edges hold. */
export class Run {
  private readonly values: (Value | undefined)[];
  /** How many edges hold a tensor that this run made. */
  private readonly holders = new Map<Tensor, number>();
  /** Without a tape nobody else needs what no later step reads. */
  private readonly releases = !isRecording();

  constructor(
    size: number,
    private readonly training: boolean,
    /** Values that live longer than the run. */
    private readonly lasting: (edge: Edge) => Value | null,
  ) {
    this.values = new Array(size);
  }

  /** Gives an edge a value that the run does not own. */
  put(edge: Edge, value: Value): void {
    this.values[edge.id] = value;
  }

  get(edge: Edge): Value {
    const value = this.values[edge.id] ?? this.lasting(edge);
    if (value) return value;
    throw new ShapeError({ rule: "A value is made before it is read", got: JSON.stringify(edge.name) });
  }

  steps(steps: readonly Step[]): void {
    for (const step of steps) {
      try {
        if ("operator" in step) this.operator(step);
        else this.branch(step);
      } catch (error) {
        throw atNode(error, step.place);
      }
      if (this.releases) for (const edge of step.release) this.letGo(edge);
    }
  }

  private operator({ operator, attributes, inputs, outputs }: OperatorStep): void {
    const values = inputs.map((edge) => (edge ? this.get(edge) : null));
    const own = operator.statistics?.every((i) => inputs[i]?.statistics && inputs[i]!.initializer !== null) ?? false;
    const call = new Call(values, attributes, outputs.length, this.training, own);
    const made = scope(() => operator.run(call));
    const results: readonly (Value | null)[] = Array.isArray(made) ? made : [made];
    for (const [i, edge] of outputs.entries()) {
      const value = results[i];
      if (edge && !value)
        throw new ShapeError({ rule: `The node has ${results.length} results`, got: `${i + 1} names` });
      if (edge) this.hold(edge, value!, values);
    }
    for (const value of results)
      if (value instanceof Tensor && !this.holders.has(value) && !values.includes(value)) value.dispose();
  }

  private branch({ condition, branches, outputs }: BranchStep): void {
    const value = this.get(condition);
    if (!(value instanceof Whole) || value.size !== 1) {
      throw new DTypeError({ rule: "A condition is one truth value", got: String(value.shape) });
    }
    const branch = branches[numbersIn(value)[0] !== 0 ? 0 : 1]!;
    this.steps(branch.steps);
    for (const [i, edge] of outputs.entries()) {
      if (!edge) continue;
      const result = this.get(branch.outputs[i]!);
      this.hold(edge, result, this.holders.has(result as Tensor) ? [] : [result]);
    }
  }

  /** A result: counted where this run made it, not where it is one of the inputs that came from elsewhere. */
  private hold(edge: Edge, value: Value, inputs: readonly (Value | null)[]): void {
    this.values[edge.id] = value;
    if (!(value instanceof Tensor)) return;
    const count = this.holders.get(value);
    if (count !== undefined) this.holders.set(value, count + 1);
    else if (!inputs.includes(value)) this.holders.set(value, 1);
  }

  private letGo(edge: Edge): void {
    const value = this.values[edge.id];
    this.values[edge.id] = undefined;
    const count = value instanceof Tensor ? this.holders.get(value) : undefined;
    if (count === undefined) return;
    this.holders.set(value as Tensor, count - 1);
    if (count > 1) return;
    this.holders.delete(value as Tensor);
    (value as Tensor).dispose();
  }
}

/** The same error, saying at which node. What JavaScript itself cannot allocate is a lack of memory. */
function atNode(error: unknown, place: string): unknown {
  if (error instanceof RangeError) {
    const got = `${error.message} (${place})`;
    return new OutOfMemoryError({ rule: "An array of JavaScript holds what fits into memory", got }, { cause: error });
  }
  if (!(error instanceof EvenkeelError) || !error.complaint) return error;
  const Kind = error.constructor as new (complaint: Complaint, options: { cause: unknown }) => EvenkeelError;
  return new Kind({ ...error.complaint, got: `${error.complaint.got} (${place})` }, { cause: error });
}
