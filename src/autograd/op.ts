import { isFloating } from "../base/dtype.js";
import { DeviceError, DTypeError, describeValue, forPurpose } from "../base/errors.js";
import { currentDevice, type DeviceName, setDevice } from "../memory/device.js";
import { closeScope, openScope } from "../memory/scope.js";
import { Need, Node, type NodeRule, setRecording } from "./graph.js";
import { bytesOf, probe } from "./probe.js";
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
  /**
   * True when each gradient is computed by itself, as a large product: a parameter's may then be computed and sent to other ranks before
   * that of x. Backward is called once for each part.
   */
  readonly separable?: true;
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
  const names: Names = { inputs: [], saved: [] };
  const rule = definition as unknown as NodeRule;
  // No closures and no wrappers here: this is the way of every op, and a small one takes a microsecond in all.
  const run = (inputs: I, options: O): { out: Tensor; extra: X } => {
    const elsewhere = setDevice(deviceOf(definition.name, inputs));
    const watching = probe;
    watching?.enter(definition.name, "forward");
    const outer = openScope();
    const taping = setRecording(false);
    let made: { out: Tensor; saved?: S; extra?: X };
    try {
      made = definition.forward(inputs, options);
      if (taping) made.out = record(rule, names, inputs, options, made);
    } catch (error) {
      closeScope(outer, null);
      watching?.leave(0);
      throw forPurpose(error, `in ${definition.name}`);
    } finally {
      setRecording(taping);
      setDevice(elsewhere);
    }
    closeScope(outer, made.out, made.extra ?? null);
    watching?.leave(bytesOf(inputs) + bytesOf([made.out]), { inputs, options, out: made.out, extra: made.extra });
    return made as { out: Tensor; extra: X };
  };
  const op = (inputs: I, options: O): Tensor => run(inputs, options).out;
  return Object.assign(op, { run });
}

/** Where an op computes: where its inputs are, all of them. */
function deviceOf(op: string, inputs: OpInputs): DeviceName {
  let device: DeviceName | null = null;
  for (const name in inputs) {
    const value: unknown = inputs[name];
    if (value === null || value === undefined) continue;
    if (!(value instanceof Tensor)) {
      const got = describeValue(value);
      throw new DTypeError({ rule: `${op} takes a tensor as ${name}`, got, fix: "Make one with tensor(data)" });
    }
    if (device === null) device = value.device;
    else if (device !== value.device) throw mixed(op, name, device, value.device);
  }
  return device ?? currentDevice();
}

const mixed = (op: string, name: string, first: DeviceName, other: DeviceName): DeviceError =>
  new DeviceError({
    rule: `${op} takes tensors of one device`,
    got: `${name} on ${other} beside others on ${first}`,
    fix: 'Move one of them with to("webgpu"), or read it with await t.data()',
  });

/** An op's names of inputs and of saved values, as lists: nearly always the same from call to call. */
interface Names {
  inputs: readonly string[];
  saved: readonly string[];
}

/** `known` if it lists the properties of `of`, else a new list. */
function namesOf(of: object, known: readonly string[]): readonly string[] {
  let i = 0;
  for (const name in of) {
    if (known[i] !== name) return Object.keys(of);
    i++;
  }
  return i === known.length ? known : Object.keys(of);
}

const nothing = {};

/** Writes a node where an input asks for a gradient. Returns the result, at its place in the graph. */
function record(
  rule: NodeRule,
  names: Names,
  inputs: OpInputs,
  options: unknown,
  { out, saved }: { out: Tensor; saved?: OpInputs },
): Tensor {
  if (!rule.backward || !isFloating(out.dtype)) return out;
  let need: Need = Need.none;
  let fresh = !out.owned && out.vertex.need === Need.none;
  for (const name in inputs) {
    const input = inputs[name];
    if (!input) continue;
    if (input.vertex.need > need) need = input.vertex.need;
    if (input === out) fresh = false;
  }
  if (need === Need.none) return out;
  names.inputs = namesOf(inputs, names.inputs);
  names.saved = namesOf(saved ?? nothing, names.saved);
  const vertices = names.inputs.map((name) => {
    const vertex = inputs[name]?.vertex;
    return vertex && vertex.need !== Need.none ? vertex : null;
  });
  // A result that somebody has already, an input say, keeps its place, and the op's result is a handle of its own.
  const result = fresh ? out : out.detach();
  new Node(rule, names.inputs, vertices, result, names.saved, saved ?? nothing, options);
  return result;
}
