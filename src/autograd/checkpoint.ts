import { StateError } from "../base/errors.js";
import { currentTape } from "../kernels/tape.js";
import { scope } from "../memory/scope.js";
import {
  currentRecorder,
  enableGrad,
  isRecording,
  type Node,
  recordedBy,
  type Source,
  savedValueChanged,
  type Vertex,
} from "./graph.js";
import { Tensor } from "./tensor.js";

/** What the surroundings (random numbers, state of layers) need to be alike in both runs. */
export interface Surroundings {
  /** Runs the first run and notes what it finds and changes. */
  first<T>(run: () => T): T;
  /** Runs the second run, which then finds and draws the same and leaves nothing changed. */
  again<T>(run: () => T): T;
  /** Lets go of what the first run noted: there will be no second. */
  release(): void;
}

/** The run that goes on: a first one, or a second one with the checkpoints inside it, or none. */
let going: "first" | Recomputation[] | null = null;

function during<T>(run: typeof going, body: () => T): T {
  const before = going;
  going = run;
  try {
    return body();
  } finally {
    going = before;
  }
}

/**
 * Runs `body`, whose nodes keep nothing for backward but the tensors among `inputs`. When backward reaches one of them,
 * `body` runs again, and each node takes over what its counterpart of the second run saved, at its own vertices: from then
 * on the graph is what it would have been without a checkpoint, second derivatives included.
 *
 * A checkpoint inside the first run of another does nothing, since its inputs too come again with the outer one; in
 * the second run of the outer one it acts.
 */
export function recompute<T>(body: (...inputs: unknown[]) => T, inputs: readonly unknown[], around: Surroundings): T {
  if (currentTape()) {
    throw new StateError({
      rule: "A checkpoint runs its body again in backward, which a capture cannot repeat",
      got: "checkpoint in a captured function",
      fix: "Leave out one of the two",
    });
  }
  if (!isRecording() || going === "first") return scope(() => body(...inputs));
  const recomputation = new Recomputation(body, inputs, around);
  if (going) going.push(recomputation);
  return recomputation.first(inputs);
}

class Recomputation implements Source {
  #nodes: Node[] = [];
  /** Nodes that may still ask, and one for the first run while it goes on. */
  #waiting = 1;
  #inputs: unknown[];
  readonly #versions: number[];

  constructor(
    private readonly body: (...inputs: unknown[]) => unknown,
    inputs: readonly unknown[],
    private readonly around: Surroundings,
  ) {
    this.#inputs = inputs.map((input) => (input instanceof Tensor ? input.alias() : input));
    this.#versions = inputs.map((input) => (input instanceof Tensor ? input.storage.version : 0));
  }

  first<T>(inputs: readonly unknown[]): T {
    const outer = currentRecorder();
    const note = (node: Node) => {
      outer?.(node);
      this.#nodes.push(node);
      this.#waiting++;
      return this;
    };
    const run = () => scope(() => this.body(...inputs) as T);
    try {
      return during("first", () => recordedBy(note, () => this.around.first(run)));
    } finally {
      this.release();
    }
  }

  release(): void {
    if (--this.#waiting > 0) return;
    for (const input of this.#inputs) if (input instanceof Tensor) input.dispose();
    this.#inputs = [];
    this.#nodes = [];
    this.around.release();
  }

  restore(): void {
    if (going === "first") {
      throw new StateError({
        rule: "The body of a checkpoint cannot go back through what it has itself recorded",
        got: "backward or grad inside the body",
        fix: "Take the gradient outside, of what checkpoint returns",
      });
    }
    scope(() => {
      const inside: Recomputation[] = [];
      const fresh: Node[] = [];
      const note = (node: Node) => {
        fresh.push(node);
        return null;
      };
      const inputs = this.#handles();
      const run = () => enableGrad(() => this.body(...inputs));
      // A scope of its own would take the nodes of side branches away before they are compared.
      during(inside, () => recordedBy(note, () => this.around.again(run)));
      const places = pair(this.#nodes, fresh);
      const counterparts = new Map(fresh.map((node, i) => [node, this.#nodes[i]!]));
      const place = (vertex: Vertex) => places.get(vertex) ?? vertex;
      for (const recomputation of inside) recomputation.#replace(counterparts, place);
      for (const [theirs, ours] of counterparts) if (ours.alive) ours.takeOver(theirs, place);
    });
  }

  /** New handles on the inputs, at their places in the graph; one that came twice comes twice again. */
  #handles(): unknown[] {
    const handles = new Map<Vertex, Tensor>();
    return this.#inputs.map((input, i) => {
      if (!(input instanceof Tensor)) return input;
      if (input.storage.version !== this.#versions[i]) throw savedValueChanged("checkpoint");
      const handle = handles.get(input.vertex) ?? new Tensor(input.storage.retain(), input.shape, input.vertex);
      handles.set(input.vertex, handle);
      return handle;
    });
  }

  /** Puts the nodes of the outer checkpoint's first run in the place of those of its second. */
  #replace(counterparts: ReadonlyMap<Node, Node>, place: (vertex: Vertex) => Vertex): void {
    this.#nodes = this.#nodes.map((node) => counterparts.get(node)!);
    this.#inputs = this.#inputs.map((input) => (input instanceof Tensor ? input.moveTo(place(input.vertex)) : input));
  }
}

/** Checks that both runs did the same, and says where the vertices of the second lie in the graph of the first. */
function pair(first: readonly Node[], second: readonly Node[]): Map<Vertex, Vertex> {
  const places = new Map<Vertex, Vertex>();
  for (const [i, node] of first.entries()) {
    const other = second[i];
    if (other?.name !== node.name) throw unlike(other ? `${other.name} in place of ${node.name}` : `no ${node.name}`);
    if (other.inputs.some((v, j) => (v && (places.get(v) ?? v)) !== node.inputs[j])) {
      throw unlike(`${node.name} of other tensors or parameters`);
    }
    const kinds = other.savedKinds!;
    const j = kinds.findIndex((kind, k) => kind !== node.savedKinds![k]);
    if (j >= 0) throw unlike(`${kinds[j]} in place of ${node.savedKinds![j]} for ${node.name}`);
    if (!sameOptions(node.options, other.options)) throw unlike(`${node.name} with other options or random numbers`);
    if (other.versions.some((version, k) => version !== node.versions[k])) throw savedValueChanged(node.name);
    places.set(other.output, node.output);
  }
  if (second.length > first.length) throw unlike(`${second[first.length]!.name} after all of the first run`);
  return places;
}

/** Compares numbers, strings, booleans, and lists and plain objects of them; tensors and functions pass. */
function sameOptions(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return typeof a === "function" || Object.is(a, b);
  if (!Array.isArray(a) && Object.getPrototypeOf(a) !== Object.prototype) return true;
  const other = b as Record<string, unknown>;
  const entries = Object.entries(a);
  return entries.length === Object.keys(b).length && entries.every(([name, value]) => sameOptions(value, other[name]));
}

const unlike = (got: string): StateError =>
  new StateError({
    rule: "The body of a checkpoint must do the same both times it runs",
    got: `${got}, the second time`,
    fix: "Decide before, and pass in what was decided; draw random numbers from the generator that manualSeed seeds",
  });
