import type { Module } from "../../module.js";
import { Sequential } from "../../sequential.js";
import { modulesOnce } from "./batch_norms.js";

/** A module in a chain, its (first) path in the model, and who holds it. */
export interface Link {
  readonly path: string;
  readonly module: Module;
  readonly parent: Module;
}

/** A Sequential that runs its children one after the other; a subclass may do something else. */
const isChain = (module: Module): boolean =>
  module instanceof Sequential && module.constructor.prototype.forward === Sequential.prototype.forward;

/** Every run of layers of a model that feed each other directly; nested Sequentials are laid out flat. */
export function chainsOf(model: Module): Link[][] {
  const paths = new Map(modulesOnce(model).map(([path, module]) => [module, path]));
  const flat = (chain: Module): Link[] =>
    chain.children().flatMap((module) => {
      return isChain(module) ? flat(module) : [{ path: paths.get(module) ?? "", module, parent: chain }];
    });
  const below = (module: Module): Link[][] => {
    if (!isChain(module)) return module.children().flatMap(below);
    const chain = flat(module);
    return [chain, ...chain.flatMap((link) => below(link.module))];
  };
  return below(model);
}
