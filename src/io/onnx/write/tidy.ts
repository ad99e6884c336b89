import type { Graph, Node, Value } from "./graph.js";
import type { GivenOutput } from "./record.js";

/** How many nodes and outputs take each edge. */
export function uses(graph: Graph, outputs: readonly GivenOutput[]): Map<Value, number> {
  const counts = new Map<Value, number>();
  const count = (value: Value | null) => value && counts.set(value, (counts.get(value) ?? 0) + 1);
  for (const { inputs } of graph.nodes) inputs.forEach(count);
  for (const { value } of outputs) count(value);
  return counts;
}

/** Takes away the nodes that no output needs. */
export function dropUnused(graph: Graph, outputs: readonly GivenOutput[]): void {
  const needed = new Set<Value>(outputs.map(({ value }) => value));
  const nodes = graph.nodes.splice(0);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const { output, inputs } = nodes[i]!;
    if (!needed.has(output)) continue;
    for (const input of inputs) if (input) needed.add(input);
    graph.nodes.unshift(nodes[i]!);
  }
}

/** `node` takes over the result of `last`, which follows it at once: its consumers read what `node` makes. */
export function absorb(graph: Graph, node: Node, last: Node, outputs: GivenOutput[]): void {
  for (const { inputs } of graph.nodes) {
    for (const [i, input] of inputs.entries()) if (input === last.output) inputs[i] = node.output;
  }
  for (const [i, output] of outputs.entries()) {
    if (output.value === last.output) outputs[i] = { ...output, value: node.output };
  }
  graph.nodes.splice(graph.nodes.indexOf(last), 1);
}

/** A constant added to each channel of a transposed convolution becomes its bias. */
export function mergeBiases(graph: Graph, outputs: GivenOutput[]): void {
  const counts = uses(graph, outputs);
  for (const last of [...graph.nodes]) {
    const [from, bias] = last.inputs;
    const node = from?.node;
    if (last.op !== "Add" || !bias?.constant || node?.op !== "ConvTranspose" || node.inputs.length > 2) continue;
    const channels = from!.shape[1]!;
    const perChannel = bias.shape.length === from!.shape.length - 1 && bias.shape[0] === channels;
    if (!perChannel || bias.shape.slice(1).some((d) => d !== 1) || counts.get(from!) !== 1) continue;
    node.inputs.push(graph.reshape(bias, [channels]));
    absorb(graph, node, last, outputs);
  }
}
