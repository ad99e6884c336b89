import type { Tensor } from "../autograd/index.js";
import { checkNonNegative } from "../base/options.js";

interface NamedParameters {
  namedParameters(): [string, Tensor & { readonly noWeightDecay?: boolean }][];
}

/**
 * Two parameter groups: weights, which decay, and the rest, which do not. Left out of the decay are biases and the
 * affine parameters of normalization layers (whatever their rank, by the mark their layer sets), and by rank every
 * other vector or number: pulling these to 0 changes what a layer computes without making the model simpler.
 */
export function weightDecayGroups(
  model: NamedParameters,
  weightDecay: number,
): { params: Tensor[]; weightDecay: number }[] {
  checkNonNegative("weightDecay", weightDecay);
  const named = model.namedParameters();
  const exempt = ([name, p]: (typeof named)[number]) =>
    p.noWeightDecay === true || p.rank <= 1 || /(^|[._])bias$/.test(name);
  const groups = [
    { params: named.filter((entry) => !exempt(entry)).map(([, p]) => p as Tensor), weightDecay },
    { params: named.filter(exempt).map(([, p]) => p as Tensor), weightDecay: 0 },
  ];
  return groups.filter((group) => group.params.length > 0);
}
