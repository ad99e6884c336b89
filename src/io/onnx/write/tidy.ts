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
  replaceUses(graph, last.output, node.output, outputs);
  graph.nodes.splice(graph.nodes.indexOf(last), 1);
}

function replaceUses(graph: Graph, value: Value, by: Value, outputs: GivenOutput[]): void {
  for (const { inputs } of graph.nodes) {
    for (const [i, input] of inputs.entries()) if (input === value) inputs[i] = by;
  }
  for (const [i, output] of outputs.entries()) if (output.value === value) outputs[i] = { ...output, value: by };
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

/**
 * Every BatchNormalization as (x - mean) * s + shift, s = scale / sqrt(variance + epsilon): runtimes compute x * s + (shift - mean * s),
 * which loses what the mean is larger than the spread.
 */
export function spellOutBatchNorms(graph: Graph, outputs: GivenOutput[]): void {
  for (const node of graph.nodes.filter(({ op }) => op === "BatchNormalization")) {
    const [x, scale, shift, mean, variance] = node.inputs as [Value, Value, Value, Value, Value];
    const along = [scale.shape[0]!, ...x.shape.slice(2).map(() => 1)];
    const from = graph.nodes.length;
    graph.path = node.path;
    const [s, b, m, v] = [scale, shift, mean, variance].map((t) => graph.reshape(t, along)) as [
      Value,
      Value,
      Value,
      Value,
    ];
    const root = graph.sqrt(graph.plus(v, node.attributes.epsilon as number));
    const y = graph.add(graph.mul(graph.sub(x, m), graph.div(s, root)), b);
    const added = graph.nodes.splice(from);
    replaceUses(graph, node.output, y, outputs);
    graph.nodes.splice(graph.nodes.indexOf(node), 1, ...added);
  }
}
