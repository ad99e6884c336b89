import { noGrad, type Tensor } from "../../autograd/index.js";
import { describeValue, OptionError, StateError } from "../../base/errors.js";
import { unknownName } from "../../base/options.js";
import { disown, scope } from "../../memory/scope.js";
import { Module, Parameter } from "../module.js";

/** What stands in a weight's place: tensors that are kept, and how the weight of one forward follows from them. */
export interface Parametrization {
  /** The function that made it, for texts. */
  readonly by: string;
  /** The property that the learned tensor moves to; the weight's own name where it stays. */
  readonly original: string;
  /** What is learned beside it, by property name. */
  readonly parameters?: Readonly<Record<string, Parameter>>;
  readonly buffers?: Readonly<Record<string, Tensor>>;
  /** The weight, on the tape where that is on. */
  weight(): Tensor;
  /** What happens before each forward. */
  beforeForward?(): void;
}

interface Installed extends Parametrization {
  /** The weight of the forward that is running; null between forwards. */
  current: Tensor | null;
}

/** The parts of a module that parametrizing changes, with their names open. */
export type Parts = Record<string, Tensor> & { readonly training: boolean };
export const partsOf = (module: Module): Parts => module as unknown as Parts;

interface Buffers {
  registerBuffer(name: string, value: Tensor): void;
  removeBuffer(name: string): void;
}

const installed = new WeakMap<Module, Map<string, Installed>>();

/**
 * Puts a parametrization in the place of `module[name]`. The property becomes a getter: during a forward it gives the
 * weight computed once for that forward, so that gradients reach what the weight is made of; between forwards it gives
 * a weight computed afresh, or the learned tensor where that keeps its name. The learned tensor keeps its identity, so
 * that an optimizer that holds it stays right.
 *
 * Throws OptionError if the module has no such parameter, StateError if it is parametrized already.
 */
export function parametrize(
  by: string,
  module: Module,
  name: string,
  make: (weight: Parameter) => Parametrization,
): void {
  const weight = parameterOf(by, module, name);
  const made: Installed = Object.assign(make(weight), { current: null });
  const { parameters = {}, buffers = {}, original } = made;
  const stays = original === name;
  const added = stays ? parameters : { ...parameters, [original]: weight };
  for (const part of [...Object.keys(added), ...Object.keys(buffers)]) {
    if (part in module) {
      throw new StateError({ rule: `${by} keeps a tensor as ${part}`, got: `a ${module.constructor.name} with one` });
    }
  }
  clearGrad(weight);
  Object.defineProperty(module, name, {
    configurable: true,
    enumerable: stays,
    get: () => made.current ?? (stays ? weight : computed(made, name)),
    set() {
      throw new StateError({
        rule: `${name} is computed by ${by}`,
        got: "a value for it",
        fix: "Call removeParametrization first, or assign to what it is computed from",
      });
    },
  });
  Object.assign(module, added);
  for (const [part, value] of Object.entries(buffers)) (module as unknown as Buffers).registerBuffer(part, value);
  forwardHook(module).set(name, made);
}

/**
 * Makes `module[name]` a plain parameter again that holds the weight as it is now; the rest of the parametrization is
 * disposed. Returns the module. Throws StateError if there is none.
 */
export function removeParametrization<M extends Module>(module: M, name = "weight"): M {
  const all = installed.get(module);
  const made = all?.get(name);
  if (!all || !made) {
    throw new StateError({
      rule: "removeParametrization takes a weight that is parametrized",
      got: `${name} of ${module instanceof Module ? module.constructor.name : describeValue(module)}, which is not`,
      ...(all && all.size > 0 ? { fix: `Parametrized are: ${[...all.keys()].join(", ")}` } : {}),
    });
  }
  const parts = module as unknown as Record<string, unknown>;
  const weight = parts[made.original] as Parameter;
  scope(() => noGrad(() => weight.assign(made.weight())));
  clearGrad(weight);
  for (const [part, value] of Object.entries(made.parameters ?? {})) {
    delete parts[part];
    clearGrad(value);
    disown(value).dispose();
  }
  for (const part of Object.keys(made.buffers ?? {})) (module as unknown as Buffers).removeBuffer(part);
  if (made.original !== name) delete parts[made.original];
  Object.defineProperty(module, name, { value: weight, configurable: true, enumerable: true, writable: true });
  all.delete(name);
  return module;
}

/** Names of the parametrized weights of a module. */
export const parametrizedNames = (module: Module): string[] => [...(installed.get(module)?.keys() ?? [])];

/** The module's parametrizations, which from the first call on are computed at the begin of each forward. */
function forwardHook(module: Module): Map<string, Installed> {
  const before = installed.get(module);
  if (before) return before;
  const all = new Map<string, Installed>();
  installed.set(module, all);
  const body = module.forward;
  module.forward = (...inputs: unknown[]) => {
    const turns = [...all].map(([name, made]) => {
      made.beforeForward?.();
      const turn = { made, outer: made.current, weight: computed(made, name) };
      made.current = turn.weight;
      return turn;
    });
    let out: Tensor | undefined;
    try {
      out = body.apply(module, inputs);
      return out;
    } finally {
      for (const { made, outer, weight } of turns) {
        made.current = outer;
        if (weight !== out) weight.dispose();
      }
    }
  };
  return all;
}

function computed(made: Installed, name: string): Tensor {
  const weight = scope(() => made.weight());
  // An initializer would write to a tensor that nobody reads again.
  return Object.defineProperty(weight, "assign", {
    value() {
      throw new StateError({
        rule: `${name} is computed by ${made.by}`,
        got: "an assignment to it",
        fix: "Initialize the weight before, or assign to what it is computed from",
      });
    },
  });
}

function parameterOf(by: string, module: Module, name: string): Parameter {
  if (!(module instanceof Module)) {
    throw new OptionError({ rule: `${by} takes a module`, got: describeValue(module), fix: "Give it a layer" });
  }
  if (installed.get(module)?.has(name)) {
    throw new StateError({
      rule: `${by} takes a weight that nothing else computes`,
      got: `${name} of a ${module.constructor.name} under ${installed.get(module)!.get(name)!.by}`,
      fix: "Call removeParametrization first",
    });
  }
  const value = (module as unknown as Record<string, unknown>)[name];
  if (value instanceof Parameter) return value;
  const known = Object.entries(module).flatMap(([key, v]) => (v instanceof Parameter ? [key] : []));
  const has = known.length > 0 ? known.join(", ") : "none";
  throw unknownName(`${by} takes a parameter of ${module.constructor.name} by name (${has})`, String(name), known);
}

function clearGrad(parameter: Parameter): void {
  const { grad } = parameter;
  parameter.grad = null;
  grad?.dispose();
}
