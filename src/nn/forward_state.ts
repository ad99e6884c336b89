import { type Surroundings, Tensor } from "../autograd/index.js";
import type { NumberArray } from "../base/dtype.js";
import { globalRandom, type RandomState } from "../base/random.js";
import { own } from "../memory/scope.js";
import { insideCall, type Module } from "./module.js";
import { runningStatsMove, tellingMoves, withRunningStats } from "./norm/moving_state.js";

/** The numbers of a buffer; of one on another device, a copy there. */
interface Snapshot {
  readonly values: NumberArray | Tensor;
  readonly version: number;
}
type Field = [holder: Record<string, unknown>, name: string, value: unknown];

/**
 * What a forward depends on beside its inputs and parameters, so that it can run again and do the same: the random
 * generator, whether statistics move, and the state of each module that it calls (buffers, and numbers and booleans
 * such as `training`). The second run starts from the state before the first, since a layer may read what it moves
 * (batch renormalization, power iteration), and the state of today returns after it: nothing moves twice.
 */
export class ForwardState implements Surroundings {
  #random: RandomState = globalRandom.state;
  #moving = runningStatsMove();
  readonly #buffers = new Map<Tensor, Snapshot>();
  /**
   * Parameters that the forward itself sets (ActNorm's first batch) hold the same numbers after the second run as before
   * it, so that their versions alone go back.
   */
  readonly #parameters = new Map<Tensor, { before: number; after: number }>();
  readonly #fields: Field[] = [];
  readonly #seen = new Set<Module>();

  first<T>(run: () => T): T {
    this.#random = globalRandom.state;
    this.#moving = runningStatsMove();
    try {
      return insideCall(
        (module) => {
          this.#noteModule(module);
          return undefined;
        },
        () => tellingMoves((tensor) => this.#noteBuffer(tensor), run),
      );
    } finally {
      for (const [t, versions] of this.#parameters) versions.after = t.storage.version;
    }
  }

  again<T>(run: () => T): T {
    const random = globalRandom.state;
    const buffers = [...this.#buffers.keys()].map((t) => [t, valuesOf(t)] as const);
    const parameters = [...this.#parameters].filter(([t, { after }]) => t.storage.version === after);
    const fields = this.#fields.map(([holder, name]): Field => [holder, name, holder[name]]);
    try {
      globalRandom.state = this.#random;
      for (const [t, before] of this.#buffers) put(t, before);
      for (const [t, { before }] of parameters) t.storage.version = before;
      for (const [holder, name, value] of this.#fields) holder[name] = value;
      return insideCall(null, () => tellingMoves(null, () => withRunningStats(this.#moving, run)));
    } finally {
      globalRandom.state = random;
      for (const [t, now] of buffers) {
        put(t, now);
        letGo(now);
      }
      for (const [t, { after }] of parameters) t.storage.version = after;
      for (const [holder, name, value] of fields) holder[name] = value;
    }
  }

  release(): void {
    for (const before of this.#buffers.values()) letGo(before);
    this.#buffers.clear();
  }

  /** A module's own forward may write to its children's state, so they are noted with it. */
  #noteModule(called: Module): void {
    if (this.#seen.has(called)) return;
    for (const module of called.modules()) {
      if (this.#seen.has(module)) continue;
      this.#seen.add(module);
      for (const [name, { value, writable }] of Object.entries(Object.getOwnPropertyDescriptors(module))) {
        if (!writable || !(typeof value === "number" || typeof value === "boolean")) continue;
        this.#fields.push([module as unknown as Record<string, unknown>, name, value]);
      }
    }
    for (const t of called.buffers()) this.#noteBuffer(t);
    for (const t of called.parameters()) {
      if (!this.#parameters.has(t)) this.#parameters.set(t, { before: t.storage.version, after: t.storage.version });
    }
  }

  #noteBuffer(t: Tensor): void {
    if (!this.#buffers.has(t)) this.#buffers.set(t, valuesOf(t));
  }
}

function valuesOf(t: Tensor): Snapshot {
  const { version } = t.storage;
  if (t.device === "cpu") return { values: t.dataSync(), version };
  return { values: own(t.emptyLike().assign(t)), version };
}

function put(t: Tensor, { values, version }: Snapshot): void {
  t.assign(values);
  t.storage.version = version;
}

function letGo({ values }: Snapshot): void {
  if (values instanceof Tensor) values.dispose();
}
