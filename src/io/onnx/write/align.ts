import { FormatError } from "../../../base/errors.js";
import { formatShape } from "../../../base/shape.js";
import type { Constant, Graph, Node, Value } from "./graph.js";
import type { Recorded } from "./record.js";

/** Which lengths of two runs are the batch's: those that are in proportion to the runs' batch sizes. */
export interface Batch {
  readonly sizes: readonly [number, number];
  /** An input that has it, and on which axis. */
  readonly input: number;
  readonly axis: number;
}

/** How often the batch size goes into a length that the runs have as `a` and `b`; null where it is not in proportion. */
export function timesBatch(a: number, b: number, { sizes }: Batch): number | null {
  return a > 0 && a % sizes[0] === 0 && a * sizes[1] === b * sizes[0] ? a / sizes[0] : null;
}

/**
 * Checks that two runs with other numbers, and with `batch` other batch sizes, are one graph: what differs would have come from the
 * numbers without an op. Lengths that follow the batch are made to do so in the first run's graph.
 */
export function align(first: Recorded, second: Recorded, batch: Batch | null): void {
  const same = new Map<Value, Value>();
  const pair = (a: Value, b: Value) => same.set(b, a);
  for (const [i, input] of first.inputs.entries()) pair(input, second.inputs[i]!);
  const [ours, theirs] = [first.graph.nodes, second.graph.nodes];
  const edits: Edit[] = [];
  for (const [i, node] of ours.entries()) {
    const other = theirs[i];
    if (other?.op !== node.op || other.path !== node.path || other.inputs.length !== node.inputs.length) {
      throw unlike(`${other ? `${other.op}${at(other)}` : "nothing"} in place of ${node.op}${at(node)}`, batch);
    }
    if (JSON.stringify(other.attributes) !== JSON.stringify(node.attributes)) {
      throw batch ? fixed(node, "an attribute") : unlike(`other attributes of ${node.op}${at(node)}`, batch);
    }
    for (const [place, a] of node.inputs.entries()) {
      const b = other.inputs[place]!;
      if (a === null || b === null) continue;
      if (a.constant && b.constant) {
        const edit = compare(a, b, node, place, batch);
        if (edit) edits.push(edit);
      } else if (same.get(b) !== a) {
        throw unlike(`other operands of ${node.op}${at(node)}`, batch);
      }
    }
    pair(node.output, other.output);
  }
  const more = theirs[ours.length];
  if (more) throw unlike(`${more.op}${at(more)} behind the end`, batch);
  for (const [i, { value }] of first.outputs.entries()) {
    const other = second.outputs[i];
    if (!other || same.get(other.value) !== value) throw unlike("results from other ops", batch);
  }
  if (batch) applyEdits(first, edits, batch);
}

/** A constant of a node that follows the batch: its lengths, or the one number that it is, as they are in both runs. */
interface Edit {
  readonly node: Node;
  readonly place: number;
  readonly lengths: readonly [ArrayLike<number>, ArrayLike<number>];
  /** Numbers that a tensor of those lengths repeats, once for each sample; null where the lengths are the constant. */
  readonly repeated: ArrayLike<number> | null;
}

function compare(a: Value, b: Value, node: Node, place: number, batch: Batch | null): Edit | null {
  const [x, y] = [a.constant!, b.constant!];
  const equalShapes = a.shape.length === b.shape.length && a.shape.every((d, i) => d === b.shape[i]);
  if (equalShapes && sameNumbers(x, y)) return null;
  if (!batch) throw fromNumbers(node);
  const proportional = (p: ArrayLike<number>, q: ArrayLike<number>) =>
    p.length === q.length && Array.from(p).every((n, i) => n === q[i] || timesBatch(n, q[i]!, batch) !== null);
  if (x.isShape) {
    const lengths = [x.numbers(), y.numbers()] as const;
    if (!proportional(...lengths)) throw fixed(node, "a length");
    return { node, place, lengths, repeated: null };
  }
  const [p, q] = [x.numbers(), y.numbers()];
  if (equalShapes && p.length === 1 && proportional(p, q)) return { node, place, lengths: [p, q], repeated: null };
  if (equalShapes) throw fromNumbers(node);
  const once = Array.from(p).slice(0, p.length / batch.sizes[0]);
  const repeats = [p, q].every((list) => Array.from(list).every((n, i) => Object.is(n, once[i % once.length])));
  if (!repeats || !proportional(a.shape, b.shape)) throw fixed(node, `a constant of shape ${formatShape(a.shape)}`);
  return { node, place, lengths: [a.shape, b.shape], repeated: once };
}

function sameNumbers(x: Constant, y: Constant): boolean {
  if (x.identity === y.identity) return true;
  const [p, q] = [x.numbers(), y.numbers()];
  if (p.length !== q.length) return false;
  for (let i = 0; i < p.length; i++) if (!Object.is(p[i], q[i])) return false;
  return true;
}

function applyEdits({ graph, inputs }: Recorded, edits: readonly Edit[], batch: Batch): void {
  const added = new Map<Node, Node[]>();
  for (const { node, place, lengths, repeated } of edits) {
    const [p, q] = lengths.map((list) => Array.from(list)) as [number[], number[]];
    const moving = p.flatMap((n, i) => (n === q[i] ? [] : [i]));
    if (node.op === "Reshape" && repeated === null && moving.length === 1) {
      node.inputs[place] = graph.lengths(p.map((n, i) => (i === moving[0] ? -1 : n)));
      continue;
    }
    const from = graph.nodes.length;
    graph.path = node.path;
    const dynamic = lengthsOfBatch(graph, inputs[batch.input]!, p, q, batch);
    const old = node.inputs[place]!;
    if (repeated !== null) {
      const { length } = repeated;
      const rows = lengthsOfBatch(
        graph,
        inputs[batch.input]!,
        [batch.sizes[0], length],
        [batch.sizes[1], length],
        batch,
      );
      const once = graph.list(repeated, [1, length], old.type);
      const all = graph.node("Expand", [once, rows], [batch.sizes[0], length]);
      node.inputs[place] = graph.node("Reshape", [all, dynamic], old.shape);
    } else {
      // A count that is computed with, a divisor of a mean for one, is of the type of what it meets.
      node.inputs[place] = graph.reshape(graph.cast(dynamic, old.type), old.shape);
    }
    added.set(node, [...(added.get(node) ?? []), ...graph.nodes.splice(from)]);
  }
  const all = graph.nodes.splice(0).flatMap((node) => [...(added.get(node) ?? []), node]);
  graph.nodes.push(...all);
}

/** A list of lengths of which some are so many times the batch size, computed from the input's shape. */
function lengthsOfBatch(graph: Graph, input: Value, p: readonly number[], q: readonly number[], batch: Batch): Value {
  const shape = graph.node("Shape", [input], [input.shape.length], { type: "int64" });
  const size = graph.gather(shape, graph.list([batch.axis], [1], "int64"));
  const parts: Value[] = [];
  let run: number[] = [];
  const close = () => {
    if (run.length > 0) parts.push(graph.lengths(run));
    run = [];
  };
  for (const [i, n] of p.entries()) {
    if (n === q[i]) {
      run.push(n);
      continue;
    }
    close();
    const times = timesBatch(n, q[i]!, batch)!;
    parts.push(times === 1 ? size : graph.mul(size, graph.list([times], [1], "int64")));
  }
  close();
  return graph.concat(parts, 0);
}

const at = ({ path }: Node): string => (path ? ` in ${path}` : "");

const unlike = (got: string, batch: Batch | null): FormatError =>
  new FormatError({
    rule: `exportOnnx runs a model twice, with other numbers${batch ? " and batch sizes" : ""}, and the ops must be the same`,
    got,
    fix: "Let shapes decide what a forward does, and no numbers that it reads",
  });

const fromNumbers = (node: Node): FormatError =>
  new FormatError({
    rule: "Constants of an exported model must not depend on its input",
    got: `an operand of ${node.op}${at(node)} that follows the input's numbers, but that no op has made of them`,
    fix: "Compute it with tensor methods, not with numbers read by item(), dataSync() or data()",
  });

const fixed = (node: Node, what: string): FormatError =>
  new FormatError({
    rule: "dynamicBatch needs a model whose lengths are fixed or in proportion to the batch",
    got: `${what} of ${node.op}${at(node)} that follows the batch size in another way`,
    fix: "Export for one batch size (dynamicBatch: false), or take the batch from the input's shape alone",
  });
