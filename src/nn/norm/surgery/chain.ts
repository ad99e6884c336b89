import type { Module } from "../../module.js";
import { Sequential } from "../../sequential.js";

/** A module in a chain, its path in the model, and who holds it. */
export interface Link {
  readonly path: string;
  readonly module: Module;
  readonly parent: Module;
}

/** A Sequential that runs its children one after the other; a subclass may do something else. */
const isChain = (module: Module): boolean =>
  module instanceof Sequential && module.constructor.prototype.forward === Sequential.prototype.forward;

const below = (path: string, name: string): string => (path ? `${path}.${name}` : name);

/** What runs in a Sequential in order, nested Sequentials laid out flat. */
const flat = (path: string, chain: Module): Link[] =>
  chain.namedChildren().flatMap(([name, module]): Link[] => {
    const link = { path: below(path, name), module, parent: chain };
    return isChain(module) ? flat(link.path, module) : [link];
  });

/** Every run of layers that feed each other directly. */
export function chainsOf(module: Module, path = ""): Link[][] {
  const children: Link[] = isChain(module)
    ? flat(path, module)
    : module.namedChildren().map(([name, child]) => ({ path: below(path, name), module: child, parent: module }));
  const deeper = children.flatMap((link) => chainsOf(link.module, link.path));
  return isChain(module) ? [children, ...deeper] : deeper;
}
