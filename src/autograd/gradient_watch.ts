import type { Node, Vertex } from "./graph.js";
import type { Tensor } from "./tensor.js";

/** What a watcher hears of a backward pass when it begins. */
export interface PassBeginning {
  /** Leaves that the graph leads to; few of those watched may get no gradient all the same. */
  readonly leaves: ReadonlySet<Vertex>;
  /** Whether the pass is recorded itself, for second derivatives. */
  readonly recorded: boolean;
}

/** Who is told, while backward passes go on, of the gradients of the leaves it is registered with (`Vertex.watchers`). */
export interface GradientWatcher {
  /**
   * Whether `ready` may come while the node that feeds a leaf has gradients left to compute. It then writes neither to the leaf nor to
   * its gradient, since the others may be made of them.
   */
  readonly early?: true;
  /** Called before a pass that leads to one of its leaves. */
  begin?(pass: PassBeginning): void;
  /** `.grad` of a leaf is what it will be when the pass is over. */
  ready(leaf: Vertex): void;
  /** Called between any two nodes. */
  between?(): void;
  /** Called after the pass, if `begin` was; `failed` where something threw. */
  end?(failed: boolean): void;
}

/**
 * One backward pass over leaves that somebody watches: gives each of them its gradient as soon as the last node that feeds it
 * has been walked. Other leaves get theirs at the end, so that a pass that fails leaves them as they were.
 */
export class WatchedPass {
  private readonly watchers: ReadonlySet<GradientWatcher>;
  private readonly between: readonly GradientWatcher[];
  private readonly begun: GradientWatcher[] = [];
  /** Watched leaves, those that get their gradient first at the end; beside each the last node to be walked that feeds it. */
  private readonly leaves: Vertex[] = [];
  private readonly feeders: Node[] = [];

  /** Null where nobody watches. `nodes` are those of the pass, oldest first. */
  static over(
    leaves: ReadonlySet<Vertex>,
    nodes: readonly Node[],
    recorded: boolean,
    accumulate: (leaf: Vertex, grad: Tensor) => void,
  ): WatchedPass | null {
    for (const leaf of leaves) if (leaf.watchers) return new WatchedPass(leaves, nodes, recorded, accumulate);
    return null;
  }

  private constructor(
    private readonly reached: ReadonlySet<Vertex>,
    nodes: readonly Node[],
    private readonly recorded: boolean,
    private readonly accumulate: (leaf: Vertex, grad: Tensor) => void,
  ) {
    const watched = [...reached].filter((leaf) => leaf.watchers !== null);
    this.watchers = new Set(watched.flatMap((leaf) => [...leaf.watchers!]));
    this.between = [...this.watchers].filter((watcher) => watcher.between);
    const left = new Set(watched);
    for (const node of nodes) {
      for (const input of node.inputs) {
        if (input === null || !left.delete(input)) continue;
        this.leaves.push(input);
        this.feeders.push(node);
      }
    }
  }

  /** Runs `body`, the pass, between begin and end of all watchers. */
  run<T>(body: () => T): T {
    let result: T;
    try {
      for (const watcher of this.watchers) {
        this.begun.push(watcher);
        watcher.begin?.({ leaves: this.reached, recorded: this.recorded });
      }
      result = body();
    } catch (error) {
      this.end(true);
      throw error;
    }
    this.end(false);
    return result;
  }

  /** Where one of several cannot end well, the others end all the same. */
  private end(failed: boolean): void {
    const watcher = this.begun.shift();
    if (!watcher) return;
    try {
      watcher.end?.(failed);
    } catch (error) {
      this.end(true);
      throw error;
    }
    this.end(failed);
  }

  /**
   * Which of a node's inputs to compute first, so that they are on their way to other ranks meanwhile: leaves that nothing later feeds.
   * Null where that is none of those needed, or all.
   */
  firstOf(node: Node, needed: readonly boolean[]): boolean[] | null {
    if (!node.separable) return null;
    const last = new Set<Vertex | null>();
    for (let i = this.feeders.length - 1; this.feeders[i] === node; i--) {
      const leaf = this.leaves[i]!;
      // All that this node feeds are said to be ready at once.
      for (const watcher of leaf.watchers ?? []) if (!watcher.early) return null;
      last.add(leaf);
    }
    const first = node.inputs.map((v, i) => needed[i]! && last.has(v));
    return first.includes(true) && first.some((f, i) => f !== needed[i]) ? first : null;
  }

  /** A node has been walked, in part or in whole, or passed by; `take` gives a leaf's gradient away. */
  passed(node: Node, take: (leaf: Vertex) => Tensor | null): void {
    while (this.feeders.at(-1) === node) {
      this.feeders.pop();
      const leaf = this.leaves.pop()!;
      const grad = take(leaf);
      if (grad) this.settle(leaf, grad);
    }
    for (const watcher of this.between) watcher.between!();
  }

  /** Gives a leaf its gradient, and says so to those who watch it. */
  settle(leaf: Vertex, grad: Tensor): void {
    this.accumulate(leaf, grad);
    if (leaf.watchers) for (const watcher of [...leaf.watchers]) watcher.ready(leaf);
  }
}

/** Has `watcher` told of these leaves; returns what ends it. */
export function watchGradients(leaves: readonly Vertex[], watcher: GradientWatcher): () => void {
  for (const leaf of leaves) {
    leaf.watchers ??= new Set();
    leaf.watchers.add(watcher);
  }
  return () => {
    for (const leaf of leaves) {
      leaf.watchers?.delete(watcher);
      if (leaf.watchers?.size === 0) leaf.watchers = null;
    }
  };
}
