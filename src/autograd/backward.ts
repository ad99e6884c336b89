import { DTypeError, forPurpose, ShapeError, StateError } from "../base/errors.js";
import { formatShape, sameShape } from "../base/shape.js";
import { kernels } from "../kernels/dispatch.js";
import { onDevice, setDevice } from "../memory/device.js";
import { closeScope, disown, openScope, own, scope } from "../memory/scope.js";
import { gradientIsThere, gradientStays } from "./captured_gradient.js";
import { WatchedPass } from "./gradient_watch.js";
import { enableGrad, Need, type Node, noGrad, setRecording, setSpare, type Vertex } from "./graph.js";
import { bytesOf, probe } from "./probe.js";
import { Tensor } from "./tensor.js";

export interface BackwardOptions {
  /** Keep saved values, so that the same graph can go back again. */
  readonly retainGraph?: boolean;
  /** Record the backward pass itself, for second derivatives. Implies retainGraph. */
  readonly createGraph?: boolean;
}

/**
 * Adds d output / d leaf to `.grad` of every leaf with requiresGrad. `seed` is d loss / d output (1 for a scalar). Leaves with a
 * hook (`registerPostAccumulateGradHook`) have theirs while it goes on, and may have it when it throws; all others afterwards.
 */
export function backward(output: Tensor, seed?: Tensor | null, options: BackwardOptions = {}): void {
  if (output.vertex.need !== Need.wanted) {
    throw new StateError({
      rule: "backward needs a result that depends on a tensor with requiresGrad",
      got: `${output} without one`,
      fix: "Set requiresGrad before the forward pass, outside noGrad",
    });
  }
  scope(() => {
    const nodes = nodesBehind(output.vertex);
    const leaves = leavesOf(output.vertex, nodes);
    accumulateAll(output, seedFor(output, seed), leaves, leaves, options, nodes);
    // Recorded gradients leave the scope with the graph behind them.
    return options.createGraph ? [...leaves].map((leaf) => leaf.grad) : null;
  });
}

export interface GradOptions extends BackwardOptions {
  /** d loss / d output; may be left out for a scalar. */
  readonly gradOutput?: Tensor | null;
}

/**
 * d output / d inputs as new tensors, one for each input in order; `.grad` stays as it is. With a single tensor as
 * `inputs` the result is a single tensor too. Zeros where output does not depend on an input.
 */
export function grad(output: Tensor, inputs: Tensor, options?: GradOptions): Tensor;
export function grad(output: Tensor, inputs: readonly Tensor[], options?: GradOptions): Tensor[];
export function grad(output: Tensor, inputs: Tensor | readonly Tensor[], options: GradOptions = {}): Tensor | Tensor[] {
  const list = inputs instanceof Tensor ? [inputs] : inputs;
  for (const input of list) {
    if (input.vertex.need === Need.none) {
      throw new StateError({
        rule: "grad differentiates by tensors with requiresGrad, or made from such",
        got: String(input),
        fix: "Set requiresGrad before the forward pass",
      });
    }
  }
  return scope(() => {
    const wanted = new Set(list.map((t) => t.vertex));
    const found = walk(output, seedFor(output, options.gradOutput), wanted, options);
    const results = list.map((t) => found.get(t.vertex) ?? zerosLike(t));
    return inputs instanceof Tensor ? results[0]! : results;
  });
}

/**
 * What `module.backward` does: the gradient to `input`, which is returned, and to `leaves`, added to their `.grad`.
 * Goes back no further than `input`.
 */
export function backwardTo(
  output: Tensor,
  gradOutput: Tensor | null,
  input: Tensor,
  leaves: readonly Tensor[],
): Tensor {
  return scope(() => {
    const places = new Set(leaves.map((t) => t.vertex));
    places.delete(input.vertex);
    const nodes = nodesBehind(output.vertex);
    const wanted = new Set([input.vertex, ...places]);
    const found = accumulateAll(output, seedFor(output, gradOutput), places, wanted, {}, nodes);
    return found.get(input.vertex) ?? zerosLike(input);
  });
}

/** Adds the gradients of `leaves` to their `.grad`, and returns those of the places that are wanted besides. */
function accumulateAll(
  output: Tensor,
  seed: Tensor,
  leaves: ReadonlySet<Vertex>,
  wanted: ReadonlySet<Vertex>,
  options: BackwardOptions,
  nodes: readonly Node[],
): Map<Vertex, Tensor> {
  const record = options.createGraph === true;
  const give = (leaf: Vertex, grad: Tensor) => accumulate(leaf, grad, record);
  const pass = WatchedPass.over(leaves, nodes, record, give);
  const walkAll = () => {
    const found = walk(output, seed, wanted, options, nodes, pass);
    for (const [leaf, grad] of found) {
      if (!leaves.has(leaf)) continue;
      if (pass) pass.settle(leaf, grad);
      else give(leaf, grad);
    }
    return found;
  };
  return pass ? pass.run(walkAll) : walkAll();
}

function seedFor(output: Tensor, seed: Tensor | null | undefined): Tensor {
  if (!seed) {
    if (output.size !== 1) {
      throw new ShapeError({
        rule: "Only a scalar can go back without gradOutput",
        got: `shape ${formatShape(output.shape)}`,
        fix: "Reduce the result to a loss, or pass gradOutput of its shape",
      });
    }
    return filledLike(output, 1);
  }
  if (!sameShape(seed.shape, output.shape)) {
    throw new ShapeError({
      rule: `gradOutput must have the output's shape ${formatShape(output.shape)}`,
      got: formatShape(seed.shape),
    });
  }
  if (seed.dtype !== output.dtype) {
    throw new DTypeError({ rule: `gradOutput must have the output's type ${output.dtype}`, got: seed.dtype });
  }
  return seed;
}

function filledLike(t: Tensor, value: number): Tensor {
  const out = t.emptyLike();
  onDevice(t.device, () => kernels.fill(out.storage, value));
  return out;
}

const zerosLike = (t: Tensor): Tensor => filledLike(t, 0);

/** All nodes behind a vertex, oldest first. A list, not recursion: a graph may be deeper than the call stack. */
function nodesBehind(root: Vertex): Node[] {
  const seen = new Set<Node>();
  if (root.node) seen.add(root.node);
  // A set is walked in the order of insertion, what is added on the way included.
  for (const node of seen) for (const input of node.inputs) if (input?.node) seen.add(input.node);
  return [...seen].sort(byAge);
}

const byAge = (a: Node, b: Node): number => a.id - b.id;

function leavesOf(root: Vertex, nodes: readonly Node[]): Set<Vertex> {
  const leaves = new Set<Vertex>();
  const consider = (v: Vertex | null) => {
    if (v && !v.node && v.need === Need.wanted) leaves.add(v);
  };
  consider(root);
  for (const node of nodes) for (const input of node.inputs) consider(input);
  return leaves;
}

/** The gradients of the wanted vertices. Visits only nodes on a path to one of them. */
function walk(
  root: Tensor,
  seed: Tensor,
  wanted: ReadonlySet<Vertex>,
  options: BackwardOptions,
  nodes: readonly Node[] = nodesBehind(root.vertex),
  pass: WatchedPass | null = null,
): Map<Vertex, Tensor> {
  const grads = new Map<Vertex, Tensor>();
  try {
    collect(root, seed, wanted, options, nodes, grads, pass);
  } catch (error) {
    for (const grad of grads.values()) grad.dispose();
    throw error;
  }
  const found = new Map<Vertex, Tensor>();
  for (const v of wanted) {
    const grad = grads.get(v);
    if (grad) found.set(v, disown(grad));
  }
  return found;
}

/** Fills `grads`, whose handles are its own until they are disposed or handed on. */
function collect(
  root: Tensor,
  seed: Tensor,
  wanted: ReadonlySet<Vertex>,
  options: BackwardOptions,
  nodes: readonly Node[],
  grads: Map<Vertex, Tensor>,
  pass: WatchedPass | null,
): void {
  const createGraph = options.createGraph === true;
  const keepGraph = createGraph || options.retainGraph === true;
  const leads = new Set<Vertex>(wanted);
  for (const node of nodes) {
    for (const v of node.inputs) {
      if (v === null || !leads.has(v)) continue;
      leads.add(node.output);
      break;
    }
  }
  if (leads.has(root.vertex)) grads.set(root.vertex, seed.alias());
  const take = (leaf: Vertex): Tensor | null => {
    const grad = grads.get(leaf);
    grads.delete(leaf);
    return grad ? disown(grad) : null;
  };
  for (let at = nodes.length - 1; at >= 0; at--) {
    const node = nodes[at]!;
    const dy = grads.get(node.output);
    if (dy) {
      const lasting = wanted.has(node.output);
      if (leads.has(node.output)) {
        if (createGraph && !node.twiceDifferentiable) throw noSecondDerivative(node.name);
        const needed = node.inputs.map((v) => v !== null && leads.has(v));
        const give = (asked: readonly boolean[], spare: boolean) => {
          const parts = partsOf(node, dy, asked, createGraph, spare);
          for (let i = 0; i < parts.length; i++) {
            if (parts[i]) add(grads, node.inputs[i]!, parts[i]!, createGraph);
          }
          for (const part of parts) if (part && !part.owned) part.dispose();
        };
        const first = createGraph ? null : pass?.firstOf(node, needed);
        if (first) {
          give(first, false);
          pass!.passed(node, take);
        }
        give(first ? needed.map((n, i) => n && !first[i]) : needed, !lasting && !createGraph);
      }
      if (!lasting) {
        grads.delete(node.output);
        dy.dispose();
      }
      if (!keepGraph) node.dispose();
    }
    pass?.passed(node, take);
  }
}

/** The gradients of a node's inputs, in a scope of their own. */
function partsOf(
  node: Node,
  dy: Tensor,
  needed: readonly boolean[],
  record: boolean,
  spare: boolean,
): (Tensor | null)[] {
  const watching = probe;
  watching?.enter(node.name, "backward");
  const elsewhere = setDevice(dy.device);
  const outer = openScope();
  const before = setRecording(record);
  let parts: (Tensor | null)[] | null = null;
  try {
    if (spare) setSpare(dy);
    parts = node.backward(dy, needed);
    return parts;
  } catch (error) {
    throw forPurpose(error, `in the backward of ${node.name}`);
  } finally {
    setSpare(null);
    setRecording(before);
    setDevice(elsewhere);
    closeScope(outer, parts);
    watching?.leave(bytesOf([dy]) + node.savedBytes + bytesOf(parts ?? []));
  }
}

const noSecondDerivative = (name: string): StateError =>
  new StateError({
    rule: "createGraph needs ops whose backward is itself differentiable",
    got: `${name}, whose backward is a kernel`,
    fix: "Write that part with elementwise ops, reductions and matmul where a second derivative is needed",
  });

/** Adds a part to a vertex's gradient, in place where nobody else can see the sum so far. */
function add(grads: Map<Vertex, Tensor>, vertex: Vertex, part: Tensor, createGraph: boolean): void {
  const before = grads.get(vertex);
  if (!before) {
    // The map holds handles of its own: the part itself, or an alias of what is dy or a saved value handed through.
    grads.set(vertex, part.owned ? part.alias() : own(part));
    return;
  }
  if (!createGraph && before.storage.exclusive) {
    addTo(before, part);
    return;
  }
  const total = scope(() => (createGraph ? enableGrad : noGrad)(() => before.add(part)));
  grads.set(vertex, own(total));
  before.dispose();
}

function accumulate(leaf: Vertex, grad: Tensor, createGraph: boolean): void {
  const before = leaf.grad;
  // A scope disposes a leaf's gradient together with the leaf; the graph may outlive both.
  if (!before || before.disposed) {
    // A gradient that shares memory (with dy, say) gets its own, since optimizers and clipping write to it.
    leaf.grad = own(createGraph || grad.storage.exclusive ? grad : copyOf(grad));
    gradientStays(leaf);
    return;
  }
  gradientIsThere(leaf);
  if (createGraph) {
    leaf.grad = own(enableGrad(() => before.add(grad)));
    return;
  }
  addTo(before, grad);
  before.storage.version++;
}

function addTo(sum: Tensor, part: Tensor): void {
  onDevice(sum.device, () => kernels.addScaled(part.storage, sum.storage, 1));
}

function copyOf(t: Tensor): Tensor {
  // To -0 alone every number can be added and stays what it is.
  const out = filledLike(t, -0);
  addTo(out, t);
  return out;
}
