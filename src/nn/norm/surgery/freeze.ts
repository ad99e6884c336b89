import { StateError } from "../../../base/errors.js";
import { type Module, Parameter } from "../../module.js";
import { BatchNormBase } from "../batch_norm.js";
import { called, checkModel, followsBatches, modulesOnce } from "./batch_norms.js";

interface Before {
  readonly training: boolean;
  readonly wanted: readonly (readonly [Parameter, boolean])[];
}

const frozen = new WeakMap<Module, Before>();

/**
 * Holds every batch normalization of a model as it is: running statistics normalize and do not move, weight and bias get
 * no gradient, whatever `train()` says; only the input has a gradient. Gradients that stand in weight and bias are
 * cleared, so that an optimizer leaves them alone. Returns the paths of the layers. `unfreeze` undoes it.
 * Throws StateError if a batch normalization has no running statistics; nothing is frozen then.
 */
export function freeze(model: Module): string[] {
  checkModel("freeze", model);
  const all = modulesOnce(model);
  for (const [path, module] of all) {
    if (!(module instanceof BatchNormBase) || followsBatches(module)) continue;
    throw new StateError({
      rule: "freeze needs running statistics to go on with",
      got: `${called(path, module)} with trackRunningStats: false`,
    });
  }
  const layers = all.filter(([, module]) => followsBatches(module) && !module.heldInEval);
  for (const [, layer] of layers) {
    const own = Object.values(layer).filter((value) => value instanceof Parameter);
    frozen.set(layer, { training: layer.training, wanted: own.map((p) => [p, p.requiresGrad] as const) });
    layer.heldInEval = true;
    layer.training = false;
    for (const p of own) {
      const { grad } = p;
      p.grad = null;
      grad?.dispose();
      p.requiresGrad = false;
    }
  }
  return layers.map(([path]) => path);
}

/** Undoes `freeze`: weight and bias are learned again as before, and the layers take the model's mode. Returns their paths. */
export function unfreeze(model: Module): string[] {
  checkModel("unfreeze", model);
  const layers = modulesOnce(model).filter(([, module]) => frozen.has(module));
  for (const [, layer] of layers) {
    const { training, wanted } = frozen.get(layer)!;
    frozen.delete(layer);
    layer.heldInEval = false;
    layer.training = layer === model ? training : model.training;
    for (const [p, on] of wanted) p.requiresGrad = on;
  }
  return layers.map(([path]) => path);
}

/** Lets a layer that takes another's place be frozen as that one is. */
export function freezeAlike(before: Module, by: Module): void {
  const was = frozen.get(before);
  by.training = before.training;
  by.heldInEval = before.heldInEval;
  if (was) frozen.set(by, was);
}
