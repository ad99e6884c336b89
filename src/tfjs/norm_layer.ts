import { cast, type serialization, type Tensor, tidy } from "@tensorflow/tfjs-core";
import { type Shape as LayerShape, type LayerVariable, layers } from "@tensorflow/tfjs-layers";
import { ShapeError } from "../base/errors.js";
import { checkNonNegative } from "../base/options.js";
import { formatShape, type Shape } from "../base/shape.js";
import { type Constraint, type Initializer, type Regularizer, saved } from "./identifiers.js";
import { optionsOfConfig, readLayerOptions } from "./layer_options.js";
import { type NormClass, ownName, savedName } from "./names.js";

export type Kwargs = Parameters<layers.Layer["call"]>[1];

interface CommonOptions {
  readonly epsilon: number;
  readonly scale: boolean;
  readonly center?: boolean;
}

/** What the layers of this folder have in common: options, gamma and beta, config. `O` are its own options with defaults. */
export abstract class NormLayer<O extends CommonOptions> extends layers.Layer {
  readonly epsilon: number;
  /** null before the first input, and where the layer has none. */
  gamma: LayerVariable | null = null;
  beta: LayerVariable | null = null;
  protected readonly options: O;
  /** Lengths of gamma and beta by axis, counted from the front. */
  #lengths: ReadonlyMap<number, number> = new Map();

  /** The class, in errors. */
  protected readonly owner: string;

  protected constructor(given: object | undefined, defaults: O) {
    const owner = ownName(new.target as unknown as NormClass);
    const { forLayer, own } = readLayerOptions(owner, given, defaults);
    super({ ...forLayer, name: forLayer.name ?? freshName(owner) });
    this.owner = owner;
    this.supportsMasking = true;
    this.options = own;
    this.epsilon = checkNonNegative(`${owner}: epsilon`, own.epsilon);
  }

  /** The axes, counted from the front, whose lengths gamma and beta have, in their order. */
  protected abstract affineAxes(shape: LayerShape): number[];

  /** y of a float32 input that fits the weights. */
  protected abstract normalized(x: Tensor, kwargs: Kwargs): Tensor;

  override build(inputShape: LayerShape | LayerShape[]): void {
    const shape = this.#oneShape(inputShape);
    const axes = this.affineAxes(shape);
    const lengths = axes.map((a) => this.#lengthAt(shape, a));
    this.#lengths = new Map(axes.map((a, i) => [a, lengths[i]!]));
    this.buildWeights(lengths);
    this.built = true;
  }

  /** Makes the weights, in Keras's order. */
  protected buildWeights(lengths: number[]): void {
    if (this.options.scale) this.gamma = this.weight("gamma", lengths);
    if (this.options.center) this.beta = this.weight("beta", lengths);
  }

  /** A weight by the options whose names begin with `option`. */
  protected weight(option: string, shape: number[], name = option, trainable = true): LayerVariable {
    const part = <T>(kind: string) => (this.options as Record<string, unknown>)[option + kind] as T | undefined;
    const initializer = part<Initializer>("Initializer");
    const regularizer = part<Regularizer | null>("Regularizer") ?? undefined;
    const constraint = part<Constraint | null>("Constraint") ?? undefined;
    return this.addWeight(name, shape, "float32", initializer, regularizer, trainable, constraint);
  }

  override call(inputs: Tensor | Tensor[], kwargs: Kwargs): Tensor {
    return tidy(() => {
      const x = this.#one(inputs, "input");
      this.#checkLengths(x.shape);
      return this.normalized(x.dtype === "float32" ? x : cast(x, "float32"), kwargs ?? {});
    });
  }

  /** gamma and beta as tensors. */
  protected get affine(): { gamma: Tensor | null; beta: Tensor | null } {
    return { gamma: this.gamma?.read() ?? null, beta: this.beta?.read() ?? null };
  }

  override getClassName(): string {
    return savedName(this.constructor as unknown as NormClass);
  }

  override getConfig(): serialization.ConfigDict {
    const config: serialization.ConfigDict = {};
    for (const [name, value] of Object.entries(this.options)) {
      const made = typeof value?.getClassName === "function";
      config[name] = made ? saved(value) : value;
    }
    return { ...config, ...super.getConfig() };
  }

  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    return new cls(optionsOfConfig(config, (cls as unknown as NormClass).defaults));
  }

  #one<T>(given: T | T[], what: string): T {
    if (!Array.isArray(given)) return given;
    if (given.length === 1) return given[0]!;
    throw new ShapeError({ rule: `${this.owner} takes one ${what}`, got: `a list of ${given.length}` });
  }

  #oneShape(given: LayerShape | LayerShape[]): LayerShape {
    return Array.isArray(given[0]) ? this.#one(given as LayerShape[], "input") : (given as LayerShape);
  }

  #lengthAt(shape: LayerShape, axis: number): number {
    const length = shape[axis];
    if (typeof length === "number") return length;
    throw new ShapeError({
      rule: `${this.owner} makes its weights for the length of axis ${axis}, which must be known`,
      got: `an input of shape [${shape.map((d) => d ?? "null").join(", ")}]`,
      fix: "Give inputShape a number there, or name another axis",
    });
  }

  #checkLengths(shape: Shape): void {
    const here = this.affineAxes([...shape]);
    if (here.length === this.#lengths.size && here.every((a) => this.#lengths.get(a) === shape[a])) return;
    throw new ShapeError({
      rule: `${this.owner} was built for ${[...this.#lengths].map(([a, n]) => `length ${n} on axis ${a}`).join(" and ")}`,
      got: `an input of shape ${formatShape(shape)}`,
      fix: "Make another layer for inputs of another shape",
    });
  }
}

const counts = new Map<string, number>();

/** evenkeel_layer_normalization_1. TensorFlow.js would make it of className, but takes no ">" in the names of weights. */
function freshName(owner: string): string {
  const n = (counts.get(owner) ?? 0) + 1;
  counts.set(owner, n);
  return `evenkeel_${owner.replace(/(?<=.)(?=[A-Z][a-z])/g, "_").toLowerCase()}_${n}`;
}
