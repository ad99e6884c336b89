import type { Tensor } from "../../autograd/index.js";
import { layerNorm } from "../../autograd/ops/layer_norm.js";
import { ShapeError } from "../../base/errors.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape, numberOfElements, type Shape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { silu } from "../activation.js";
import { zeros_ } from "../init.js";
import { Linear } from "../linear.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkCondition, partsOf } from "./condition.js";

export interface AdaLNOptions extends PlacementOptions {
  readonly eps?: number;
  /** Whether the condition goes through SiLU before the linear map. Default true. */
  readonly silu?: boolean;
}

/** What AdaLN and AdaLNZero share: layer normalization without affine, and `parts` linear maps of the condition. */
abstract class AdaptiveLayerNorm extends Module {
  readonly normalizedShape: Shape;
  readonly linear: Linear;
  readonly silu: boolean;
  eps: number;

  constructor(
    private readonly layer: "AdaLN" | "AdaLNZero",
    normalizedShape: number | Shape,
    readonly conditionSize: number,
    private readonly parts: number,
    options: AdaLNOptions | undefined,
  ) {
    super();
    this.normalizedShape = checkNormalizedShape(layer, normalizedShape);
    checkPositiveInteger(`${layer}: conditionSize`, conditionSize);
    const o = readOptions(layer, options, { eps: family[layer].eps as number, silu: true, ...placementDefaults });
    const placed = readPlacement(o);
    this.eps = checkNonNegative(`${layer}: eps`, o.eps);
    this.silu = checkBoolean(`${layer}: silu`, o.silu);
    this.linear = new Linear(conditionSize, parts * numberOfElements(this.normalizedShape), placed);
  }

  /** y = LN(x) (1 + scale) + shift, and whatever other parts the linear map gives; each broadcasts against x. */
  protected modulated(x: Tensor, condition: Tensor): { y: Tensor; rest: Tensor[] } {
    const { layer, normalizedShape, linear, eps } = this;
    const between = x.rank - normalizedShape.length - 1;
    if (between < 0) {
      throw new ShapeError({
        rule: `${layer} takes an input [N, ..., ${normalizedShape.join(", ")}]`,
        got: formatShape(x.shape),
      });
    }
    checkCondition(layer, condition, x, this.conditionSize);
    const xhat = layerNorm({ x, weight: null, bias: null }, { normalizedShape, eps });
    const maps = linear.forward(this.silu ? silu(condition) : condition);
    const shape = [x.shape[0]!, ...new Array<number>(between).fill(1), ...normalizedShape];
    const [shift, scale, ...rest] = partsOf(maps, this.parts).map((t) => t.reshape(shape)) as [Tensor, Tensor];
    return { y: xhat.mul(scale.add(1)).add(shift), rest };
  }
}

/**
 * Layer normalization with scale and shift from a condition: y = LN(x) (1 + scale(c)) + shift(c).
 *
 * Shapes: x and y [N, ..., ...normalizedShape], condition [N, conditionSize].
 * State:  linear.weight [2 D, conditionSize] (rows of shift, then of scale), linear.bias, D elements being normalized.
 */
export class AdaLN extends AdaptiveLayerNorm {
  constructor(normalizedShape: number | Shape, conditionSize: number, options?: AdaLNOptions) {
    super("AdaLN", normalizedShape, conditionSize, 2, options);
  }

  override forward(x: Tensor, condition: Tensor): Tensor {
    return scope(() => this.modulated(x, condition).y);
  }
}

/** What stands between modulation and gate in a residual block. */
export type Body = Module | ((y: Tensor) => Tensor);

/**
 * AdaLN with a gate, all of it 0 at first, so that a residual block begins as the identity:
 * forward(x, c, body) = x + gate(c) body(LN(x) (1 + scale(c)) + shift(c)).
 *
 * Shapes: as AdaLN; body keeps the shape, and without one the normalized y itself is added.
 * State:  linear.weight [3 D, conditionSize] (rows of shift, scale, gate), linear.bias. The body's state is its owner's.
 */
export class AdaLNZero extends AdaptiveLayerNorm {
  constructor(normalizedShape: number | Shape, conditionSize: number, options?: AdaLNOptions) {
    super("AdaLNZero", normalizedShape, conditionSize, 3, options);
    this.resetParameters();
  }

  resetParameters(): void {
    zeros_(this.linear.weight);
    if (this.linear.bias) zeros_(this.linear.bias);
  }

  /** The modulated input of a block's body, and the gate for what the body makes of it. */
  modulate(x: Tensor, condition: Tensor): { y: Tensor; gate: Tensor } {
    return scope(() => {
      const { y, rest } = this.modulated(x, condition);
      return { y, gate: rest[0]! };
    });
  }

  override forward(x: Tensor, condition: Tensor, body: Body = (y) => y): Tensor {
    return scope(() => {
      const { y, gate } = this.modulate(x, condition);
      const made = body instanceof Module ? body.forward(y) : body(y);
      return x.add(gate.mul(made));
    });
  }
}
