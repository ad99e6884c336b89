import type { Tensor } from "../../autograd/index.js";
import { Parameter } from "../module.js";

/** A parameter of a normalization layer: weight decay leaves it alone, whatever its rank. */
export const affineParameter = (value: Tensor): Parameter => new Parameter(value, { noWeightDecay: true });
