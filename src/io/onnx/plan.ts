import type { Tensor } from "../../autograd/index.js";
import type { ElementName } from "../elements.js";
import type { Attributes } from "./attributes.js";
import type { Operator } from "./operator.js";
import type { Value } from "./value.js";

/** A named value of a graph; names of functions' and branches' insides may come again, so that its number tells it. */
export class Edge {
  /** What is known of it when the model is loaded. */
  value: Value | null = null;
  /** The name of the initializer that it is, for floats: a parameter, a buffer or a constant. */
  initializer: string | null = null;
  learned = false;
  affine = false;
  statistics = false;

  constructor(
    readonly id: number,
    readonly name: string,
  ) {}
}

/** One operator to run. */
export interface OperatorStep {
  readonly place: string;
  readonly operator: Operator;
  readonly attributes: Attributes;
  readonly inputs: readonly (Edge | null)[];
  readonly outputs: readonly (Edge | null)[];
  /** Edges that no later step reads. */
  readonly release: Edge[];
}

/** One of two graphs to run, as a condition says. */
export interface BranchStep {
  readonly place: string;
  readonly condition: Edge;
  readonly branches: readonly [Branch, Branch];
  readonly outputs: readonly (Edge | null)[];
  readonly release: Edge[];
}

export interface Branch {
  readonly steps: readonly Step[];
  readonly outputs: readonly (Edge | null)[];
}

export type Step = OperatorStep | BranchStep;

/** An input as the file describes it. */
export interface InputInfo {
  readonly name: string;
  readonly edge: Edge;
  readonly type: ElementName;
  /** A length, a name that stands for one, or null for any; null in all for any shape. */
  readonly shape: readonly (number | string | null)[] | null;
}

export interface Plan {
  readonly inputs: readonly InputInfo[];
  readonly outputs: readonly { readonly name: string; readonly edge: Edge }[];
  readonly steps: readonly Step[];
  /** How many edges there are; their ids lie below. */
  readonly size: number;
  /** Float initializers that are read, by name. */
  readonly initializers: ReadonlyMap<string, Edge>;
  /** All tensors that were made when the model was loaded. */
  readonly tensors: readonly Tensor[];
  /** Every value of the main graph by name, in the file's order. */
  readonly names: readonly string[];
}

const isBranch = (step: Step): step is BranchStep => "branches" in step;

/** Marks what is learned, from the last step back, since movements pass it on to what they move. */
export function markLearned(steps: readonly Step[]): void {
  for (const step of [...steps].reverse()) {
    if (isBranch(step)) {
      for (const branch of step.branches) markLearned(branch.steps);
      continue;
    }
    const { learned = [], statistics = [], affine = false, passes } = step.operator;
    for (const i of learned) {
      const edge = step.inputs[i];
      if (!edge) continue;
      edge.learned = true;
      edge.affine ||= affine;
    }
    for (const i of statistics) if (step.inputs[i]) step.inputs[i]!.statistics = true;
    const [from, to] = [step.inputs[0], step.outputs[0]];
    if (!passes || !from || !to?.learned) continue;
    from.learned = true;
    from.affine ||= to.affine;
  }
}

/** Everything that a step reads or makes, in its branches too. */
function touched(step: Step): (Edge | null)[] {
  if (!isBranch(step)) return [...step.inputs, ...step.outputs];
  const inside = step.branches.flatMap(({ steps, outputs }) => [...steps.flatMap(touched), ...outputs]);
  return [step.condition, ...step.outputs, ...inside];
}

/** Writes down after which step each value is needed no more. */
export function markReleases(steps: readonly Step[], outputs: ReadonlySet<Edge>): void {
  const seen = new Set<Edge>(outputs);
  for (const step of [...steps].reverse()) {
    for (const edge of touched(step)) {
      if (!edge || seen.has(edge)) continue;
      seen.add(edge);
      step.release.push(edge);
    }
  }
}
