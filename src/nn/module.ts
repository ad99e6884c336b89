import { backwardTo, copyOnCPU, isRecording, Need, Tensor, Vertex } from "../autograd/index.js";
import { type DType, isFloating, type NumberArray } from "../base/dtype.js";
import { DeviceError, DTypeError, describeValue, FormatError, StateError } from "../base/errors.js";
import { sameShape } from "../base/shape.js";
import { currentDevice, type DeviceName, onDevice } from "../memory/device.js";
import { disown, own, scope } from "../memory/scope.js";
import { stateMisfit } from "./state_suggestions.js";

/** A tensor that a module learns: owned by it, with requiresGrad set. */
export class Parameter extends Tensor {
  /** Set by normalization layers on their affine parameters: weight decay leaves them alone. */
  noWeightDecay: boolean;

  constructor(value: Tensor, options: { noWeightDecay?: boolean } = {}) {
    super(value.storage.retain(), value.shape);
    this.noWeightDecay = options.noWeightDecay ?? false;
    this.requiresGrad = true;
    own(this);
    value.dispose();
  }
}

/** Names and tensors; keys as in PyTorch. */
export type StateDict = Record<string, Tensor>;

/** What can be loaded: tensors, or numbers with a shape (as file readers give them). */
export type StateSource =
  | Tensor
  | { readonly shape: readonly number[]; readonly data: NumberArray | readonly number[] };

/** What is asked of the values that a saved state gives to a buffer. */
export interface BufferRules {
  /** The least value: 0 for a variance. */
  readonly least?: number;
}

/** Depth of module calls: only the outermost call remembers its input for `backward`. */
let depth = 0;

/** Told of each module before its forward; what it returns is called behind that forward. */
type ModuleListener = (module: Module) => (() => void) | undefined;
let listener: ModuleListener | null = null;

/** Runs `body` as inside a module's forward, and tells `listen` of each module that is called. */
export function insideCall<T>(listen: ModuleListener | null, body: () => T): T {
  const before = listener;
  listener = listen;
  depth++;
  try {
    return body();
  } finally {
    depth--;
    listener = before;
  }
}

/**
 * Base of all layers and models, as torch.nn.Module: assign parameters, buffers and modules (or arrays of modules) to
 * properties and they are found by name. Property names in camelCase become state names in snake_case.
 */
export abstract class Module {
  training = true;
  /** While true, `train()` leaves this module in evaluation (nn.freeze). */
  heldInEval = false;
  readonly #buffers = new Map<string, BufferRules>();
  #last: { input: Tensor; output: Tensor } | null = null;

  constructor() {
    const body = this.forward;
    Object.defineProperty(this, "forward", {
      enumerable: false,
      configurable: true,
      writable: true,
      value: (...args: unknown[]) => this.#call(body as (...args: unknown[]) => Tensor, args),
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: a subclass decides what it takes; any other type would forbid overriding
  abstract forward(...inputs: any[]): Tensor;

  /**
   * d loss / d input of the last `forward` called on this module, from d loss / d output; parameters add up in `.grad`.
   * A forward can be taken back once. Throws StateError without a recorded forward.
   */
  backward(gradOutput?: Tensor): Tensor {
    const last = this.#last;
    if (!last) {
      throw new StateError({
        rule: "backward goes back through this module's last forward",
        got: "no forward on the tape",
        fix: "Call forward on this very module first, outside noGrad",
      });
    }
    const leaves = this.parameters().filter((p) => p.requiresGrad);
    return backwardTo(last.output, gradOutput ?? null, last.input, leaves);
  }

  /** What a forward makes besides (masks, constants) lies where its input does. */
  #call(body: (...args: unknown[]) => Tensor, args: unknown[]): Tensor {
    const first = args[0];
    if (!(first instanceof Tensor) || first.device === currentDevice()) return this.#run(body, args);
    return onDevice(first.device, () => this.#run(body, args));
  }

  #run(body: (...args: unknown[]) => Tensor, args: unknown[]): Tensor {
    const leave = listener?.(this);
    if (leave) {
      try {
        return body.apply(this, args);
      } finally {
        leave();
      }
    }
    if (depth > 0) return body.apply(this, args);
    depth++;
    try {
      if (!isRecording()) return body.apply(this, args);
      const first = args[0];
      // An input nobody asked a gradient for is traced all the same, so that `backward` can return its gradient.
      if (first instanceof Tensor && first.vertex.need === Need.none && isFloating(first.dtype)) {
        const traced = new Tensor(first.storage.retain(), first.shape, new Vertex(Need.onDemand));
        // Self-attention takes one tensor three times: its gradient is the sum of all three.
        args = args.map((a) => (a === first ? traced : a));
      }
      const output = body.apply(this, args);
      this.#last = args[0] instanceof Tensor && output instanceof Tensor ? { input: args[0], output } : null;
      return output;
    } catch (error) {
      // A layer reads its input's shape without asking first; what is no tensor at all gets an answer here.
      if (error instanceof TypeError && !(args[0] instanceof Tensor))
        throw notATensor(this.constructor.name, args[0], error);
      throw error;
    } finally {
      depth--;
    }
  }

  /** Makes a tensor part of the state without being learned. `null` leaves the name out of the state. */
  protected registerBuffer(name: keyof this & string, value: Tensor | null, rules: BufferRules = {}): void {
    this.#buffers.set(name, rules);
    if (value) own(value);
    (this as Record<string, unknown>)[name] = value;
  }

  /** Takes a buffer out of the module and gives its memory back. */
  protected removeBuffer(name: string): void {
    const self = this as Record<string, unknown>;
    const value = self[name];
    if (!this.#buffers.delete(name)) return;
    delete self[name];
    if (value instanceof Tensor) disown(value).dispose();
  }

  /**
   * Puts `by` wherever this module holds `child` directly: in properties and in arrays of modules. A module that keeps
   * its children elsewhere overrides this together with namedChildren.
   */
  replaceChild(child: Module, by: Module): void {
    const self = this as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(this)) {
      if (value === child) self[name] = by;
      else if (Array.isArray(value)) for (const [i, item] of value.entries()) if (item === child) value[i] = by;
    }
  }

  /** Direct children with their names. */
  namedChildren(): [string, Module][] {
    return this.#properties().flatMap(([name, value]): [string, Module][] => {
      if (value instanceof Module) return [[name, value]];
      if (!Array.isArray(value)) return [];
      return value.flatMap((item, i): [string, Module][] => (item instanceof Module ? [[`${name}.${i}`, item]] : []));
    });
  }

  children(): Module[] {
    return this.namedChildren().map(([, child]) => child);
  }

  /** This module and all below it, with their paths ("" for this one). */
  namedModules(prefix = ""): [string, Module][] {
    return [
      [prefix, this],
      ...this.namedChildren().flatMap(([name, child]) => child.namedModules(prefix ? `${prefix}.${name}` : name)),
    ];
  }

  modules(): Module[] {
    return this.namedModules().map(([, module]) => module);
  }

  /** Learned tensors with their state names; one that is shared comes once. */
  namedParameters(): [string, Parameter][] {
    const seen = new Set<Tensor>();
    return this.#entries((module) => module.ownTensors().parameters).filter(
      (entry): entry is [string, Parameter] => !seen.has(entry[1]) && seen.add(entry[1]) !== undefined,
    );
  }

  parameters(): Parameter[] {
    return this.namedParameters().map(([, p]) => p);
  }

  namedBuffers(): [string, Tensor][] {
    return this.#entries((module) => module.ownTensors().buffers);
  }

  /**
   * Parameters and buffers of this module alone, by their names in a state. A module that keeps them elsewhere than in its properties
   * overrides this.
   */
  protected ownTensors(): { parameters: [string, unknown][]; buffers: [string, unknown][] } {
    const parameters = this.#properties().filter(([, v]) => v instanceof Parameter);
    const self = this as unknown as Record<string, unknown>;
    return { parameters, buffers: [...this.#buffers.keys()].map((name) => [stateName(name), self[name]]) };
  }

  buffers(): Tensor[] {
    return this.namedBuffers().map(([, b]) => b);
  }

  /** Training mode here and below: batch statistics, dropout on. */
  train(mode = true): this {
    for (const module of this.modules()) module.training = mode && !module.heldInEval;
    return this;
  }

  /** Evaluation mode here and below: running statistics, dropout off. */
  eval(): this {
    return this.train(false);
  }

  /** Sets requiresGrad of every parameter. */
  requiresGrad(on = true): this {
    for (const p of this.parameters()) p.requiresGrad = on;
    return this;
  }

  /** Forgets all gradients and gives their memory back. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      const g = p.grad;
      p.grad = null;
      g?.dispose();
    }
  }

  /**
   * Moves to a device, or casts floating-point parameters and buffers; tensors keep their identity. Counters (int32 buffers)
   * stay on the CPU, where layers read them. Back to the CPU it is `await model.toCPU()`. "float16" is for parameters alone, of a
   * model on a device that has it: running statistics stay as they are, since their range and digits are not float16's.
   */
  to(target: DeviceName | DType): this {
    scope(() => {
      for (const t of target === "float16" ? this.parameters() : this.#floating()) {
        const moved = t.detach().to(target);
        if (moved.dtype !== t.dtype || moved.device !== t.device) take(t, moved);
      }
    });
    return this;
  }

  /** Where the parameters are; "cpu" where there are none. */
  get device(): DeviceName {
    return this.parameters()[0]?.device ?? "cpu";
  }

  /** Brings parameters and buffers back from another device; float16 becomes float32. */
  async toCPU(): Promise<this> {
    const elsewhere = this.#floating().filter((t) => t.device !== "cpu");
    const copies = await Promise.all(elsewhere.map(copyOnCPU));
    for (const [i, t] of elsewhere.entries()) {
      take(t, copies[i]!);
      copies[i]!.dispose();
    }
    return this;
  }

  #floating(): Tensor[] {
    return [...this.parameters(), ...this.buffers()].filter((t) => isFloating(t.dtype));
  }

  /** All parameters and buffers by name; the tensors share memory with the module, and lie where it does. */
  stateDict(): StateDict {
    return Object.fromEntries(this.#state().map(([name, t]) => [name, t.detach()]));
  }

  /** All parameters and buffers by name, as copies on the CPU of what they are now, whichever device they lie on. */
  async stateDictAsync(): Promise<StateDict> {
    const copies = this.#state().map(async ([name, t]) => [name, await copyOnCPU(t)] as const);
    return Object.fromEntries(await Promise.all(copies));
  }

  #state(): [string, Tensor][] {
    return this.#entries((module) => {
      const { parameters, buffers } = module.ownTensors();
      return [...parameters, ...buffers];
    });
  }

  /**
   * Copies values in by name. With `strict` (default) every name must match. Nothing is changed when it throws.
   * Throws FormatError with all names that are missing, unexpected (and what they look like), of another shape, or out of a buffer's range; DeviceError
   * for tensors on a device where the module is not. The range of numbers on a device is not looked at.
   */
  loadStateDict(
    state: Readonly<Record<string, StateSource>> | ReadonlyMap<string, StateSource>,
    options: { strict?: boolean } = {},
  ): void {
    const given: ReadonlyMap<string, StateSource> = state instanceof Map ? state : new Map(Object.entries(state));
    scope(() => {
      const targets = this.stateDict();
      const strict = options.strict ?? true;
      const missing = Object.keys(targets).filter((name) => !given.has(name));
      const unexpected = [...given.keys()].filter((name) => !Object.hasOwn(targets, name));
      const misshapen = Object.entries(targets).flatMap(([name, { shape }]) => {
        const value = given.get(name);
        return !value || sameShape(value.shape, shape) ? [] : [{ name, given: value.shape, wanted: shape }];
      });
      if ((strict && missing.length + unexpected.length > 0) || misshapen.length > 0) {
        throw stateMisfit({
          missing: new Map(strict ? missing.map((name) => [name, targets[name]!.shape]) : []),
          unexpected: new Map(strict ? unexpected.map((name) => [name, given.get(name)?.shape ?? []]) : []),
          misshapen,
        });
      }
      for (const [name, t] of Object.entries(targets)) checkReach(name, given.get(name), t);
      this.#checkRanges(given);
      for (const [name, target] of Object.entries(targets)) {
        const value = given.get(name);
        if (value) target.assign(value instanceof Tensor ? value : value.data);
      }
    });
  }

  #checkRanges(given: ReadonlyMap<string, StateSource>): void {
    for (const [path, module] of this.namedModules()) {
      for (const [name, { least }] of module.#buffers) {
        const full = path ? `${path}.${stateName(name)}` : stateName(name);
        const value = given.get(full);
        if (!value || least === undefined || (value instanceof Tensor && value.device !== "cpu")) continue;
        const numbers = value instanceof Tensor ? value.storage.view : value.data;
        const at = numbers.findIndex((v) => v < least);
        if (at < 0) continue;
        throw new FormatError({
          rule: `${full} holds numbers of at least ${least}`,
          got: `${numbers[at]} at place ${at}`,
          fix: "The file is damaged, or holds something else under this name",
        });
      }
    }
  }

  /** Gives back the memory of all parameters, buffers and gradients. */
  dispose(): void {
    this.zeroGrad();
    for (const t of [...this.parameters(), ...this.buffers()]) disown(t).dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #properties(): [string, unknown][] {
    return Object.entries(this).map(([name, value]) => [stateName(name), value]);
  }

  #entries(of: (module: Module) => [string, unknown][]): [string, Tensor][] {
    return this.namedModules().flatMap(([path, module]) =>
      of(module)
        .filter((entry): entry is [string, Tensor] => entry[1] instanceof Tensor)
        .map(([name, t]): [string, Tensor] => [path ? `${path}.${name}` : name, t]),
    );
  }
}

/** Numbers of the CPU go anywhere; those of a device only where they are, unless they are read. */
function checkReach(name: string, value: StateSource | undefined, target: Tensor): void {
  if (!(value instanceof Tensor) || value.device === "cpu") return;
  if (value.device === target.device && value.dtype === target.dtype) return;
  throw new DeviceError({
    rule: `${name} is ${target.dtype} on ${target.device}`,
    got: `${value.dtype} on ${value.device}`,
    fix: "Take the state with await model.stateDictAsync()",
  });
}

function take(t: Tensor, moved: Tensor): void {
  t.grad = null;
  t.adopt(moved);
}

function notATensor(layer: string, got: unknown, cause: TypeError): DTypeError {
  const complaint = {
    rule: `${layer}.forward takes a tensor`,
    got: describeValue(got),
    fix: "Make one with tensor(data)",
  };
  return new DTypeError(complaint, { cause });
}

/** runningMean -> running_mean */
export const stateName = (name: string): string => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
