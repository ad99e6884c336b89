import { Tensor } from "../../../autograd/index.js";
import { describeValue, OptionError } from "../../../base/errors.js";
import { family, type NormName } from "../../../norm/family.js";
import { Module } from "../../module.js";
import { RunningNorm } from "../running_norm.js";

export function checkModel(owner: string, model: unknown): asserts model is Module {
  if (model instanceof Module) return;
  throw new OptionError({ rule: `${owner} takes a module`, got: describeValue(model) });
}

/** Each module once, with the first of its paths. */
export function modulesOnce(model: Module): [string, Module][] {
  const seen = new Set<Module>();
  return model.namedModules().filter(([, module]) => !seen.has(module) && seen.add(module) !== undefined);
}

/** A path for texts: the root has none. */
export const called = (path: string, module: Module): string =>
  path ? `${path} (${module.constructor.name})` : module.constructor.name;

/**
 * Whether a layer evaluates with running statistics and trains with the batch's. Instance normalization does not count:
 * in training its statistics are each sample's own.
 */
export function followsBatches(module: Module): boolean {
  if (module instanceof RunningNorm) {
    const { layer } = module as unknown as { layer: NormName };
    if (family[layer].view === "instance") return false;
  }
  return Object.entries(module).some(([name, value]) => name.startsWith("running") && value instanceof Tensor);
}
