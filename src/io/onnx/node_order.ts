import { damaged } from "../damage.js";
import type { Graph, Node } from "./proto/onnx_pb.js";

/** What errors call a node. */
export const placeOf = (node: Node, index: number, inside = ""): string =>
  `${inside}node ${index}${node.name ? ` ${JSON.stringify(node.name)}` : ""} (${node.opType || "no operator"})`;

/** Graphs among a node's attributes. */
export const graphsOf = (node: Node): Graph[] => node.attribute.flatMap((a) => [...(a.g ? [a.g] : []), ...a.graphs]);

/** All names that a node reads, in its graphs too. Nesting is as deep as the reading of the file allows. */
function readNames(node: Node): string[] {
  const inside = graphsOf(node).flatMap((g) => [...g.node.flatMap(readNames), ...g.output.map((o) => o.name)]);
  return [...node.input, ...inside];
}

/**
 * Nodes in an order in which each comes after those whose results it reads: the file's own where it is one. With `wanted`, only those
 * that lead to these values. Throws FormatError for a value that two nodes make, and for a cycle.
 */
export function ordered(
  nodes: readonly Node[],
  wanted: readonly string[] | null,
  file: string,
  inside = "",
): { node: Node; place: string }[] {
  const makers = new Map<string, number>();
  for (const [i, node] of nodes.entries()) {
    for (const name of node.output) {
      if (name === "") continue;
      const first = makers.get(name);
      if (first !== undefined) {
        const got = `a second one from ${placeOf(nodes[first]!, first, inside)}`;
        throw damaged(file, placeOf(node, i, inside), { rule: `The value ${JSON.stringify(name)} is made once`, got });
      }
      makers.set(name, i);
    }
  }
  const needs = nodes.map((node) => [...new Set(readNames(node).flatMap((name) => makers.get(name) ?? []))]);
  const roots = wanted ? wanted.flatMap((name) => makers.get(name) ?? []).sort((a, b) => a - b) : [...nodes.keys()];
  return depthFirst(roots, needs, (i) => {
    const rule = "A graph has no cycles";
    return damaged(file, placeOf(nodes[i]!, i, inside), { rule, got: "a node that needs its own result" });
  })
    .sort(fileOrder(needs))
    .map((i) => ({ node: nodes[i]!, place: placeOf(nodes[i]!, i, inside) }));
}

/** Leaves an order as it is unless the file's own will do. */
function fileOrder(needs: readonly (readonly number[])[]): (a: number, b: number) => number {
  const sorted = needs.every((list, i) => list.every((j) => j < i));
  return sorted ? (a, b) => a - b : () => 0;
}

/** Numbers after all that they need. A stack of its own: a graph may be deeper than that of calls. */
function depthFirst(
  roots: readonly number[],
  needs: readonly (readonly number[])[],
  cycle: (at: number) => Error,
): number[] {
  const state = new Uint8Array(needs.length);
  const [open, done] = [1, 2];
  const order: number[] = [];
  for (const root of roots) {
    if (state[root] !== 0) continue;
    const stack: { node: number; next: number }[] = [{ node: root, next: 0 }];
    state[root] = open;
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const need = needs[top.node]![top.next++];
      if (need === undefined) {
        state[top.node] = done;
        order.push(top.node);
        stack.pop();
      } else if (state[need] === open) {
        throw cycle(need);
      } else if (state[need] === 0) {
        state[need] = open;
        stack.push({ node: need, next: 0 });
      }
    }
  }
  return order;
}
