import type { ConvPlan, Triple } from "../kernel_set.js";

/** Plans of one kind that are kept: more than the layers of most models have. */
const KEPT = 64;

/**
 * Keeps what `make` made for the last plans. They are compared number by number, since a key to look them up by would be
 * a string made for each call.
 */
export function kept<P, T>(same: (a: P, b: P) => boolean, make: (plan: P) => T): (plan: P) => T {
  const plans: P[] = [];
  const made: T[] = [];
  return (plan) => {
    for (let i = 0; i < plans.length; i++) if (plans[i] === plan || same(plans[i]!, plan)) return made[i]!;
    if (plans.length >= KEPT) {
      plans.length = 0;
      made.length = 0;
    }
    const value = make(plan);
    plans.push(plan);
    made.push(value);
    return value;
  };
}

const sameTriple = (a: Triple, b: Triple): boolean => a[0] === b[0] && a[1] === b[1] && a[2] === b[2];

const sameConv = (a: ConvPlan, b: ConvPlan): boolean =>
  a.batch === b.batch &&
  a.inChannels === b.inChannels &&
  a.outChannels === b.outChannels &&
  a.groups === b.groups &&
  sameTriple(a.input, b.input) &&
  sameTriple(a.output, b.output) &&
  sameTriple(a.kernel, b.kernel) &&
  sameTriple(a.stride, b.stride) &&
  sameTriple(a.padding, b.padding) &&
  sameTriple(a.dilation, b.dilation);

/** What depends on the shapes of a convolution alone: making it takes as long as a small one. */
export const keptForConv = <T>(make: (p: ConvPlan) => T): ((p: ConvPlan) => T) => kept(sameConv, make);
