import type { Tensor } from "../autograd/index.js";
import { activation } from "../autograd/ops/activation.js";
import { checkNumber, readOptions, unknownName } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** Which GELU: "none" computes it with the error function, "tanh" approximates it. */
export type GeluApproximation = "none" | "tanh";

/** max(x, 0) */
export const relu = (x: Tensor): Tensor => activation(x, "relu");

/** x where x > 0, else negativeSlope x. */
export const leakyRelu = (x: Tensor, negativeSlope = 0.01): Tensor => activation(x, "leakyRelu", negativeSlope);

/** x Phi(x), Phi being the normal distribution function. */
export function gelu(x: Tensor, options?: { readonly approximate?: GeluApproximation }): Tensor {
  const { approximate } = readOptions("gelu", options, { approximate: "none" as GeluApproximation });
  return activation(x, checkApproximation(approximate) === "tanh" ? "geluTanh" : "gelu");
}

function checkApproximation(value: unknown): GeluApproximation {
  if (value === "none" || value === "tanh") return value;
  throw unknownName("gelu approximate is none or tanh", String(value), ["none", "tanh"]);
}

/** x sigmoid(x) */
export const silu = (x: Tensor): Tensor => activation(x, "silu");

/** 1 / (1 + exp(-x)) */
export const sigmoid = (x: Tensor): Tensor => activation(x, "sigmoid");

export const tanh = (x: Tensor): Tensor => activation(x, "tanh");

/** max(x, 0) */
export class ReLU extends Module {
  constructor(options?: PlacementOptions) {
    super();
    readPlacement(readOptions("ReLU", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** x where x > 0, else negativeSlope x. */
export class LeakyReLU extends Module {
  constructor(
    readonly negativeSlope = 0.01,
    options?: PlacementOptions,
  ) {
    super();
    checkNumber("LeakyReLU negativeSlope", negativeSlope, "a finite number", Number.isFinite);
    readPlacement(readOptions("LeakyReLU", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return leakyRelu(x, this.negativeSlope);
  }
}

/** x Phi(x); `approximate: "tanh"` computes it without the error function. */
export class GELU extends Module {
  readonly approximate: GeluApproximation;

  constructor(options?: { readonly approximate?: GeluApproximation } & PlacementOptions) {
    super();
    const o = readOptions("GELU", options, { approximate: "none" as GeluApproximation, ...placementDefaults });
    readPlacement(o);
    this.approximate = checkApproximation(o.approximate);
  }

  override forward(x: Tensor): Tensor {
    return activation(x, this.approximate === "tanh" ? "geluTanh" : "gelu");
  }
}

/** x sigmoid(x) */
export class SiLU extends Module {
  constructor(options?: PlacementOptions) {
    super();
    readPlacement(readOptions("SiLU", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/** 1 / (1 + exp(-x)) */
export class Sigmoid extends Module {
  constructor(options?: PlacementOptions) {
    super();
    readPlacement(readOptions("Sigmoid", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return sigmoid(x);
  }
}

/** (exp(x) - exp(-x)) / (exp(x) + exp(-x)) */
export class Tanh extends Module {
  constructor(options?: PlacementOptions) {
    super();
    readPlacement(readOptions("Tanh", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return tanh(x);
  }
}
