import { isFloating } from "../base/dtype.js";
import { DTypeError, describeValue } from "../base/errors.js";
import { scope } from "../memory/scope.js";
import { isRecording, Need, Node, noGrad } from "./graph.js";
import { Tensor } from "./tensor.js";

export type OpInputs = Readonly<Record<string, Tensor | null | undefined>>;
export type Needs<I> = { readonly [K in keyof I]: boolean };
export type Gradients<I> = { readonly [K in keyof I]?: () => Tensor };

/**
 * An op: forward beside backward, sharing names. The docstring above it gives the formula, shapes, units, what it saves
 * and why, what it throws, and its source.
 */
export interface OpDefinition<I extends OpInputs, O, S extends OpInputs, X> {
  /** snake_case; the name under which errors and profiles show it. */
  readonly name: string;
  /**
   * `saved` are the tensors backward needs (inputs, or `out`, may be among them); `extra` are results without gradient.
   * Runs off the tape; tensors made here and not returned are disposed.
   */
  forward(inputs: I, options: O): { out: Tensor; saved?: S; extra?: X };
  /**
   * One thunk an input: what nobody asks for costs nothing. `needs` says in advance which will be asked, for kernels that
   * compute several gradients in one pass. Null for an op without gradient (a comparison): nothing is recorded then, nor
   * for a result of type int32.
   */
  readonly backward: ((dy: Tensor, saved: S, options: O, needs: Needs<I>) => Gradients<I>) | null;
  /**
   * True when backward is made of differentiable ops of its arguments, so that `createGraph` can differentiate it again.
   * Ops whose backward calls a kernel leave it out, and a second derivative through them is refused.
   */
  readonly twiceDifferentiable?: true;
}

export interface Op<I extends OpInputs, O, X> {
  (inputs: I, options: O): Tensor;
  /** The result together with the op's extra results. */
  run(inputs: I, options: O): { out: Tensor; extra: X };
}

/** Makes an op callable: runs forward, and records what backward needs when an input is on the tape. */
export function defineOp<
  I extends OpInputs,
  O = Record<never, never>,
  S extends OpInputs = Record<never, never>,
  X = undefined,
>(definition: OpDefinition<I, O, S, X>): Op<I, O, X> {
  const run = (inputs: I, options: O): { out: Tensor; extra: X } => {
    checkTensors(definition.name, inputs);
    const { out, extra } = scope(() => {
      const made = noGrad(() => definition.forward(inputs, options));
      const node = isRecording() ? record(definition, inputs, options, made) : null;
      const result = node ? new Tensor(made.out.storage.retain(), made.out.shape, node.output) : made.out;
      return { out: result, extra: made.extra };
    });
    return { out, extra: extra as X };
  };
  const op = (inputs: I, options: O): Tensor => run(inputs, options).out;
  return Object.assign(op, { run });
}

function checkTensors(op: string, inputs: OpInputs): void {
  for (const name in inputs) {
    const value: unknown = inputs[name];
    if (value === null || value === undefined || value instanceof Tensor) continue;
    const got = describeValue(value);
    throw new DTypeError({ rule: `${op} takes a tensor as ${name}`, got, fix: "Make one with tensor(data)" });
  }
}

function record<I extends OpInputs, O, S extends OpInputs, X>(
  definition: OpDefinition<I, O, S, X>,
  inputs: I,
  options: O,
  made: { out: Tensor; saved?: S },
): Node | null {
  const names = Object.keys(inputs) as (keyof I & string)[];
  const vertices = names.map((name) => {
    const vertex = inputs[name]?.vertex;
    return vertex && vertex.need !== Need.none ? vertex : null;
  });
  const { backward } = definition;
  if (!backward || !isFloating(made.out.dtype) || vertices.every((v) => v === null)) return null;

  const savedNames = Object.keys(made.saved ?? {});
  const savedTensors = savedNames.map((name) => made.saved![name] ?? null);
  const node: Node = new Node(
    definition.name,
    vertices,
    savedTensors,
    (dy, saved, needed) => {
      const byName = Object.fromEntries(savedNames.map((name, i) => [name, saved[i]])) as unknown as S;
      const needs = Object.fromEntries(names.map((name, i) => [name, needed[i]])) as Needs<I>;
      const thunks = backward(dy, byName, options, needs);
      return names.map((name, i) => (needed[i] ? (thunks[name]?.() ?? null) : null));
    },
    definition.twiceDifferentiable ?? false,
    options,
  );
  // An op that saves its own result (exp, softmax) saves it under the vertex the user's tensor has.
  node.relabel(made.out.vertex, node.output);
  return node;
}
