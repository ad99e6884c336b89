import { bytesOf, copyOnCPU, probe, Tensor } from "../autograd/index.js";
import { DeviceError, DTypeError, FormatError, OptionError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { formatShape, sameShape } from "../base/shape.js";
import { kernels } from "../kernels/dispatch.js";
import { everyTime } from "../kernels/tape.js";
import { type DeviceName, onDevice } from "../memory/device.js";
import type { Slot } from "../memory/heap.js";
import { own } from "../memory/scope.js";

/** Parameters with options of their own; what is left out comes from the optimizer's options. */
export type ParameterGroup<O> = { readonly params: Iterable<Tensor> } & Partial<O>;

/** What the constructors take: parameters, or groups of them. */
export type Parameters<O> = Iterable<Tensor> | readonly ParameterGroup<O>[];

/** What an optimizer remembers of one parameter: tensors of its shape, and numbers. */
export interface ParameterState {
  readonly tensors: Record<string, Tensor>;
  readonly numbers: Record<string, number>;
}

/** Parameters that are updated together: one type, and a state of the same age and kind. */
export interface Batch {
  readonly members: Tensor[];
  readonly states: ParameterState[];
  /** Where parameters, gradients and, by name, tensors of state lie. */
  readonly params: Slot[];
  readonly grads: Slot[];
  readonly slots: Map<string, Slot[]>;
}

/** The batches of one group, which stay the same from step to step as long as the same parameters have gradients. */
interface Batching {
  readonly batches: Batch[];
  /** For each parameter of the group its batch and place there; null while it has no gradient. */
  readonly places: ({ readonly batch: Batch; readonly at: number } | null)[];
}

/** Everything needed to continue: plain data and tensors, parameters counted in the order of the groups. */
export interface OptimizerState {
  readonly groups: readonly Record<string, unknown>[];
  readonly parameters: Readonly<Record<string, ParameterState>>;
}

/**
 * Base of the update rules. Subclasses check their options and say how parameters move; groups, gradients and state
 * live here. All parameters of a group move in one pass, as long as they have had a gradient in the same steps.
 */
export abstract class Optimizer<O extends { lr: number }> {
  /** Options by group, with the parameters they apply to. Schedules write `lr` here. */
  readonly paramGroups: ({ params: Tensor[] } & O)[];
  private readonly state = new Map<Tensor, ParameterState>();
  private readonly batchings = new Map<object, Batching>();

  /**
   * Throws OptionError for options with unknown names or values out of range, no parameters, one named twice, or one
   * that does not require a gradient.
   */
  protected constructor(
    private readonly owner: string,
    parameters: Parameters<O>,
    options: Partial<O> | undefined,
    defaults: O,
    private readonly check: (options: O) => void,
  ) {
    const common = readOptions<O>(owner, options, defaults);
    const list = [...(parameters as Iterable<Tensor | ParameterGroup<O>>)];
    const groups = list.some((item) => item instanceof Tensor) || list.length === 0 ? [{ params: list }] : list;
    this.paramGroups = (groups as ParameterGroup<O>[]).map(({ params, ...own }) => {
      const groupOptions = readOptions<O>(`${owner} group`, own, common);
      check(groupOptions);
      return { ...groupOptions, params: [...params] };
    });
    this.checkParameters();
  }

  /** Moves every parameter that has a gradient. Throws DTypeError for parameters of float16. */
  step(): void {
    everyTime(() => this.stepNow());
  }

  private stepNow(): void {
    const watching = probe;
    watching?.enter(this.owner, "update");
    try {
      this.stepGroups();
    } finally {
      watching?.leave(this.stepBytes());
    }
  }

  /** Of parameters with a gradient, of the gradients and of the state. */
  private stepBytes(): number {
    const params = this.paramGroups.flatMap((group) => group.params).filter((p) => p.grad !== null);
    const grads = params.map((p) => p.grad);
    const states = params.flatMap((p) => Object.values(this.state.get(p)?.tensors ?? {}));
    return bytesOf([...params, ...grads, ...states]);
  }

  private stepGroups(): void {
    for (const group of this.paramGroups) {
      this.check(group);
      for (const batch of this.batches(group)) {
        onDevice(batch.members[0]!.device, () => this.update(batch, group));
        for (const p of batch.members) p.storage.version++;
      }
    }
  }

  private batches(group: { params: Tensor[] }): Batch[] {
    const known = this.batchings.get(group);
    if (known && refresh(known, group.params)) return known.batches;
    const made = this.batching(group.params);
    this.batchings.set(group, made);
    return made.batches;
  }

  private batching(params: readonly Tensor[]): Batching {
    const batches: Batch[] = [];
    const places = params.map((p) => {
      const g = p.grad;
      if (!g) return null;
      if (p.dtype === "float16") throw tooCoarse(this.owner);
      let state = this.state.get(p);
      if (!state) {
        state = { tensors: {}, numbers: {} };
        this.state.set(p, state);
      }
      let batch = batches.find((b) => like(b.members[0]!, p) && alike(b.states[0]!, state!));
      if (!batch) {
        batch = { members: [], states: [], params: [], grads: [], slots: new Map() };
        batches.push(batch);
      }
      batch.params.push(p.storage);
      batch.grads.push(g.storage);
      batch.states.push(state);
      return { batch, at: batch.members.push(p) - 1 };
    });
    return { batches, places };
  }

  /** Forgets all gradients and gives their memory back. */
  zeroGrad(): void {
    for (const { params } of this.paramGroups) {
      for (const p of params) {
        const g = p.grad;
        p.grad = null;
        g?.dispose();
      }
    }
  }

  /** Moves the state to a device, as `model.to(device)` moves the parameters. Back to the CPU it is `await optimizer.toCPU()`. */
  to(device: DeviceName): this {
    this.batchings.clear();
    for (const t of this.stateTensors()) {
      const moved = t.to(device);
      if (moved === t) continue;
      t.adopt(moved);
      moved.dispose();
    }
    return this;
  }

  /** Brings the state back from another device. */
  async toCPU(): Promise<this> {
    this.batchings.clear();
    const elsewhere = [...this.stateTensors()].filter((t) => t.device !== "cpu");
    const copies = await Promise.all(elsewhere.map(copyOnCPU));
    for (const [i, t] of elsewhere.entries()) {
      t.adopt(copies[i]!);
      copies[i]!.dispose();
    }
    return this;
  }

  /** The tensors share memory with the optimizer, and lie where they do there. */
  stateDict(): OptimizerState {
    const all = this.paramGroups.flatMap((group) => group.params);
    return {
      groups: this.paramGroups.map(({ params, ...options }) => ({ ...options, params: params.length })),
      parameters: Object.fromEntries(
        all.flatMap((p, i) => {
          const s = this.state.get(p);
          return s ? [[String(i), { tensors: { ...s.tensors }, numbers: { ...s.numbers } }]] : [];
        }),
      ),
    };
  }

  /** The state with copies on the CPU of what it is now, whichever device it lies on. */
  async stateDictAsync(): Promise<OptimizerState> {
    const { groups, parameters } = this.stateDict();
    const copies = Object.entries(parameters).map(async ([index, { tensors, numbers }]) => {
      const copied = Object.entries(tensors).map(async ([name, t]) => [name, await copyOnCPU(t)] as const);
      return [index, { tensors: Object.fromEntries(await Promise.all(copied)), numbers }] as const;
    });
    return { groups, parameters: Object.fromEntries(await Promise.all(copies)) };
  }

  /** Takes over a saved state, to where the parameters are. Throws FormatError, and changes nothing, when groups or shapes differ. */
  loadStateDict(saved: OptimizerState): void {
    const sizes = saved.groups.map((g) => g.params);
    const mine = this.paramGroups.map((g) => g.params.length);
    if (sizes.join() !== mine.join()) {
      throw new FormatError({
        rule: `This ${this.owner} has groups of ${mine.join(", ")} parameters`,
        got: `a state with ${sizes.join(", ") || "none"}`,
        fix: "Build model and optimizer as they were when the state was saved",
      });
    }
    const all = this.paramGroups.flatMap((group) => group.params);
    for (const [index, { tensors }] of Object.entries(saved.parameters)) {
      for (const [name, t] of Object.entries(tensors)) {
        const p = all[Number(index)];
        if (!p || !sameShape(p.shape, t.shape)) {
          throw new FormatError({
            rule: `State ${name} of parameter ${index} must have its shape ${p ? formatShape(p.shape) : ""}`,
            got: formatShape(t.shape),
          });
        }
      }
    }
    // Copies first: what is loaded may be this optimizer's own state.
    const copies = Object.entries(saved.parameters).map(([index, { tensors, numbers }]) => {
      const p = all[Number(index)]!;
      const copy = (t: Tensor) => own(p.emptyLike()).assign(t);
      const copied = Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, copy(t)]));
      return [p, { tensors: copied, numbers: { ...numbers } }] as const;
    });
    this.disposeState();
    for (const [p, state] of copies) this.state.set(p, state);
    for (const [i, group] of this.paramGroups.entries()) {
      const { params: _, ...options } = saved.groups[i]!;
      Object.assign(group, options);
    }
  }

  /** Gives back the memory of the state; the next step begins anew. */
  dispose(): void {
    this.disposeState();
  }

  protected abstract update(batch: Batch, options: O): void;

  /** A tensor of each parameter's state, zero when first asked for. */
  protected slots({ members, states, slots }: Batch, name: string): Slot[] {
    let found = slots.get(name);
    if (!found) {
      found = states.map(({ tensors }, i) => {
        let t = tensors[name];
        if (!t) {
          const { shape, dtype } = members[i]!;
          t = own(Tensor.empty(shape, dtype));
          kernels.fill(t.storage, 0);
          tensors[name] = t;
        }
        if (t.device !== members[i]!.device) throw this.leftBehind(t, members[i]!);
        return t.storage;
      });
      slots.set(name, found);
    }
    return found;
  }

  private leftBehind(state: Tensor, p: Tensor): DeviceError {
    return new DeviceError({
      rule: `The state of ${this.owner} lies where its parameters do`,
      got: `state on ${state.device} and a parameter on ${p.device}`,
      fix: 'Move the optimizer with the model: optimizer.to("webgpu"), or await optimizer.toCPU()',
    });
  }

  private *stateTensors(): Generator<Tensor> {
    for (const { tensors } of this.state.values()) yield* Object.values(tensors);
  }

  private disposeState(): void {
    for (const { tensors } of this.state.values()) for (const t of Object.values(tensors)) t.dispose();
    this.state.clear();
    this.batchings.clear();
  }

  private checkParameters(): void {
    const all = this.paramGroups.flatMap((group) => group.params);
    const complaint =
      all.length === 0
        ? "none"
        : new Set(all).size !== all.length
          ? "one that is named twice"
          : all.find((p) => !(p instanceof Tensor) || p.vertex.node !== null)
            ? "something else"
            : undefined;
    if (complaint) {
      throw new OptionError({
        rule: `${this.owner} takes parameters (tensors that no op made), each once`,
        got: complaint,
        fix: "Pass model.parameters(), or groups such as [{ params, weightDecay: 0 }]",
      });
    }
  }
}

/** Takes over where gradients lie now. False where other parameters have one than before, or one has moved itself. */
function refresh({ places }: Batching, params: readonly Tensor[]): boolean {
  if (places.length !== params.length) return false;
  for (let i = 0; i < params.length; i++) {
    const [p, place] = [params[i]!, places[i]!];
    if ((p.grad === null) !== (place === null)) return false;
    if (place === null) continue;
    if (place.batch.members[place.at] !== p || place.batch.params[place.at] !== p.storage) return false;
    place.batch.grads[place.at] = p.grad!.storage;
  }
  return true;
}

const tooCoarse = (owner: string): DTypeError =>
  new DTypeError({
    rule: `${owner} moves parameters by less than the distance of two float16 numbers`,
    got: "a parameter of float16",
    fix: 'Keep the model in float32 and cast its input: model.forward(x.cast("float16"))',
  });

const like = (a: Tensor, b: Tensor): boolean => a.dtype === b.dtype && a.device === b.device;

/** Whether two states hold tensors of the same names and equal numbers. */
function alike(a: ParameterState, b: ParameterState): boolean {
  if (a === b) return true;
  for (const name in a.numbers) if (a.numbers[name] !== b.numbers[name]) return false;
  for (const name in b.numbers) if (!(name in a.numbers)) return false;
  for (const name in a.tensors) if (!(name in b.tensors)) return false;
  for (const name in b.tensors) if (!(name in a.tensors)) return false;
  return true;
}
