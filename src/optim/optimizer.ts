import { Tensor } from "../autograd/index.js";
import { FormatError, OptionError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { formatShape, sameShape } from "../base/shape.js";
import { kernels } from "../kernels/dispatch.js";
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

/** Everything needed to continue: plain data and tensors, parameters counted in the order of the groups. */
export interface OptimizerState {
  readonly groups: readonly Record<string, unknown>[];
  readonly parameters: Readonly<Record<string, ParameterState>>;
}

/**
 * Base of the update rules. Subclasses check their options and say how one parameter moves; groups, gradients and
 * state live here.
 */
export abstract class Optimizer<O extends { lr: number }> {
  /** Options by group, with the parameters they apply to. Schedules write `lr` here. */
  readonly paramGroups: ({ params: Tensor[] } & O)[];
  private readonly state = new Map<Tensor, ParameterState>();

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

  /** Moves every parameter that has a gradient. */
  step(): void {
    for (const { params, ...rest } of this.paramGroups) {
      const options = rest as unknown as O;
      this.check(options);
      for (const p of params) {
        const g = p.grad;
        if (!g) continue;
        let state = this.state.get(p);
        if (!state) {
          state = { tensors: {}, numbers: {} };
          this.state.set(p, state);
        }
        this.update(p, g, state, options);
        p.storage.version++;
      }
    }
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

  /** Takes over a saved state. Throws FormatError, and changes nothing, when groups or shapes differ. */
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
      const copy = (t: Tensor) => own(Tensor.empty(p.shape, p.dtype)).assign(t);
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

  protected abstract update(p: Tensor, g: Tensor, state: ParameterState, options: O): void;

  /** A tensor of the state, zero when first asked for. */
  protected slot(state: ParameterState, name: string, like: Tensor): Tensor {
    let t = state.tensors[name];
    if (!t) {
      t = own(Tensor.empty(like.shape, like.dtype));
      kernels.fill(t.storage, 0);
      state.tensors[name] = t;
    }
    return t;
  }

  private disposeState(): void {
    for (const { tensors } of this.state.values()) for (const t of Object.values(tensors)) t.dispose();
    this.state.clear();
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
