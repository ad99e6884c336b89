import { Tensor } from "../autograd/index.js";
import { type DType, isFloating } from "../base/dtype.js";
import { DTypeError, describeValue, StateError } from "../base/errors.js";
import { type BufferRules, Module, type Parameter } from "../nn/module.js";

/** What nn asks of values that are loaded into its buffers. */
const rules: Readonly<Record<string, BufferRules>> = { runningVar: { least: 0 }, numBatchesTracked: { least: 0 } };

/** The type of parameters whose own is not known yet. */
export const untyped: DType = "float64";

/** A layer of nn with a weight, and in most a bias. */
export type WithAffine = Module & { weight: Parameter | null };

/**
 * A layer of another system: a layer of nn that does the work, and the other system's names for its tensors. A tensor
 * stands under its new name in the state, among the parameters and as a property; assigning to that property copies
 * values in, so that optimizers keep hold of it.
 */
export abstract class Adapter<N extends Module = Module> extends Module {
  #norm: N | null = null;
  /** Whether the parameters still wait for an input to tell their type. */
  #untyped = false;

  /** `whenBuilt` tells what makes the parameters, for the error of a call that comes too early. */
  constructor(private readonly whenBuilt: string) {
    super();
  }

  /** The layer at work. Throws StateError before there is one. */
  protected get norm(): N {
    if (this.#norm) return this.#norm;
    throw new StateError({
      rule: `${this.constructor.name} has its parameters after ${this.whenBuilt}`,
      got: "a call before that",
      fix: `Begin with ${this.whenBuilt}`,
    });
  }

  protected get hasNorm(): boolean {
    return this.#norm !== null;
  }

  /**
   * Puts `norm` to work, replacing one that was there: its tensors come under the names `{ mine: its own }`. With dtype
   * null they take the first input's type; `norm` is float64 until then, so that no first value is rounded on its way.
   */
  protected wrap(norm: N, names: Readonly<Record<string, keyof N & string>>, dtype: DType | null): void {
    this.#norm?.dispose();
    this.#norm = norm;
    this.#untyped = dtype === null;
    for (const [mine, theirs] of Object.entries(names)) {
      Reflect.deleteProperty(this, mine);
      const target = norm[theirs] as Tensor | null;
      const learned = norm.parameters().some((p) => p === target);
      if (target && !learned) this.registerBuffer(mine as keyof this & string, target, rules[theirs]);
      Object.defineProperty(this, mine, {
        configurable: true,
        enumerable: true,
        get: () => target,
        set: (values: Tensor | ArrayLike<number>) => this.#tensor(mine, target).assign(values),
      });
    }
  }

  /** The layer at work for an input, whose type is taken if none was given. */
  protected normFor(x: Tensor): N {
    const { norm } = this;
    if (this.#untyped && isFloating(x.dtype)) {
      this.to(x.dtype);
      this.#untyped = false;
    }
    return norm;
  }

  #tensor(name: string, target: Tensor | null): Tensor {
    if (target) return target;
    throw new StateError({ rule: `This ${this.constructor.name} was made without ${name}`, got: "values for it" });
  }

  override backward(gradOutput?: Tensor): Tensor {
    if (gradOutput === undefined || gradOutput instanceof Tensor) return super.backward(gradOutput);
    throw new DTypeError({
      rule: `${this.constructor.name}.backward takes a tensor`,
      got: describeValue(gradOutput),
      fix: "Make one with tensor(data)",
    });
  }

  override dispose(): void {
    super.dispose();
    this.#norm?.dispose();
  }
}

/** Takes weight or bias from a layer, for systems that leave out one of them alone. */
export function leaveOut(norm: WithAffine, absent: { readonly weight: boolean; readonly bias: boolean }): void {
  const affine: { weight: Parameter | null; bias?: Parameter | null } = norm;
  for (const name of ["weight", "bias"] as const) {
    if (!absent[name] || !affine[name]) continue;
    affine[name].dispose();
    affine[name] = null;
  }
}
