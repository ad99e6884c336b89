import type { Tensor } from "../autograd/index.js";
import type { DType } from "../base/dtype.js";
import { ShapeError } from "../base/errors.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { normalizeAxes, type Shape } from "../base/shape.js";
import type { Module } from "../nn/module.js";
import { Adapter, untyped } from "./adapter.js";

export interface LazyOptions {
  readonly name?: string | null;
  /** Type of the parameters; null (default): that of the first input. */
  readonly dtype?: DType | null;
}

export const lazyDefaults = { name: null as string | null, dtype: null as DType | null };

/** A layer that learns its shape from its first input. */
export abstract class Lazy<N extends Module> extends Adapter<N> {
  readonly name: string | null;
  readonly dtype: DType | null;

  constructor(o: Required<LazyOptions>) {
    super("build(inputShape), or a first call");
    this.name = o.name;
    this.dtype = o.dtype;
  }

  get built(): boolean {
    return this.hasNorm;
  }

  /** Makes the parameters for an input; null stands for a length that they do not depend on, as the batch's. */
  build(inputShape: readonly (number | null)[]): void {
    if (!Array.isArray(inputShape)) {
      throw new ShapeError({
        rule: `${this.constructor.name}.build takes the input's shape, [null, ...]`,
        got: String(inputShape),
      });
    }
    this.make(inputShape as Shape, this.dtype ?? untyped);
  }

  /** Wraps a layer of nn for inputs of `shape`. */
  protected abstract make(shape: Shape, dtype: DType): void;

  /** The layer at work, made for x if there is none. */
  protected override normFor(x: Tensor, training = this.training): N {
    if (!this.built) this.make(x.shape, this.dtype ?? x.dtype);
    const norm = super.normFor(x);
    norm.training = training;
    return norm;
  }
}

/** A length that must be known. */
export function lengthAt(layer: string, shape: readonly (number | null)[], axis: number): number {
  const length = shape[axis]!;
  if (length !== null) return length;
  throw new ShapeError({ rule: `${layer} must know the length of axis ${axis}`, got: JSON.stringify(shape) });
}

/** `training` as an option of a call; the layer's own mode unless given. */
export function readTraining(owner: string, options: object | undefined, mode: boolean): boolean {
  return checkBoolean(`${owner}: training`, readOptions(owner, options, { training: mode }).training);
}

/** `body` on x with some axes moved to the end, and its result with them moved back. */
export function withLast(x: Tensor, axes: number | readonly number[], body: (x: Tensor) => Tensor): Tensor {
  const last = normalizeAxes(axes, x.rank);
  const order = [...x.shape.keys()].filter((a) => !last.includes(a)).concat(last);
  if (order.every((a, i) => a === i)) return body(x);
  return body(x.permute(order)).permute(order.map((_, i) => order.indexOf(i)));
}
