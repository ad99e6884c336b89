import type { Tensor } from "../autograd/index.js";
import { OptionError } from "../base/errors.js";
import { Module } from "./module.js";

/**
 * Modules one after the other. Children are named "0", "1", ... as in PyTorch.
 *
 * What a layer returns is disposed as soon as the next one has taken it in; the tape holds what backward needs. A layer
 * that wants to keep its input for later keeps `x.alias()`.
 */
export class Sequential extends Module {
  readonly #layers: Module[];

  constructor(...layers: Module[]) {
    super();
    for (const [i, layer] of layers.entries()) {
      if (layer instanceof Module) continue;
      throw new OptionError({
        rule: "Sequential takes modules, one argument each",
        got: `${Array.isArray(layer) ? "an array" : typeof layer} as argument ${i}`,
        fix: Array.isArray(layer) ? "Spread it: new nn.Sequential(...layers)" : "Wrap a function in a Module",
      });
    }
    this.#layers = layers;
  }

  get length(): number {
    return this.#layers.length;
  }

  /** The layer at a place; negative ones count from the end. */
  at(index: number): Module | undefined {
    return this.#layers.at(index);
  }

  append(layer: Module): this {
    this.#layers.push(layer);
    return this;
  }

  [Symbol.iterator](): IterableIterator<Module> {
    return this.#layers.values();
  }

  override namedChildren(): [string, Module][] {
    return this.#layers.map((layer, i) => [String(i), layer]);
  }

  override replaceChild(child: Module, by: Module): void {
    for (const [i, layer] of this.#layers.entries()) if (layer === child) this.#layers[i] = by;
  }

  override forward(x: Tensor): Tensor {
    let current = x;
    for (const layer of this.#layers) {
      const next: Tensor = layer.forward(current);
      if (current !== x && current !== next && !current.owned) current.dispose();
      current = next;
    }
    return current;
  }
}
