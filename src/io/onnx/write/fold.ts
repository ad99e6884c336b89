import type { Graph, Node, Value } from "./graph.js";
import type { GivenOutput } from "./record.js";
import { absorb, uses } from "./tidy.js";

/** Paths of a normalization that is gone and of the layer that now does its work. */
export interface Folded {
  readonly layer: string;
  readonly norm: string;
}

/** For each weight of a layer the output channel that it goes to. */
type ChannelOf = (shape: readonly number[], groups: number) => (i: number) => number;

const rows: ChannelOf = (shape) => {
  const row = shape.slice(1).reduce((a, b) => a * b, 1);
  return (i) => Math.floor(i / row);
};

const layers: Readonly<Record<string, ChannelOf>> = {
  Conv: rows,
  Gemm: rows,
  // [in, out / groups, ...kernel]
  ConvTranspose(shape, groups) {
    const [from, to] = [shape[0]! / groups, shape[1]!];
    const window = shape.slice(2).reduce((a, b) => a * b, 1);
    return (i) => {
      const column = Math.floor(i / window);
      return Math.floor(column / to / from) * to + (column % to);
    };
  },
};

/** Numbers of a constant, in double; null for anything that is computed. */
const numbersOf = (value: Value | null | undefined): Float64Array | null =>
  value?.constant ? Float64Array.from(value.constant.numbers()) : null;

/**
 * Each BatchNormalization that is all that becomes of a Conv, ConvTranspose or Gemm goes into that one's weight and bias:
 * weight * s and (bias - mean) * s + shift, s = scale / sqrt(variance + epsilon), computed in double.
 */
export function foldNorms(graph: Graph, outputs: GivenOutput[]): Folded[] {
  const counts = uses(graph, outputs);
  const folded: Folded[] = [];
  for (const norm of graph.nodes.filter(({ op }) => op === "BatchNormalization")) {
    const [x, ...constants] = norm.inputs;
    const layer = x?.node;
    const channelOf = layer && layers[layer.op];
    const [scale, shift, mean, variance] = constants.map(numbersOf);
    const weight = numbersOf(layer?.inputs[1]);
    if (!layer || !channelOf || counts.get(x!) !== 1 || !scale || !shift || !mean || !variance || !weight) continue;
    const bias = layer.inputs[2] ? numbersOf(layer.inputs[2]) : new Float64Array(scale.length);
    if (!bias) continue;
    const epsilon = norm.attributes.epsilon as number;
    const factors = scale.map((s, c) => s / Math.sqrt(variance[c]! + epsilon));
    const channel = channelOf(layer.inputs[1]!.shape, (layer.attributes.group as number | undefined) ?? 1);
    const scaled = weight.map((w, i) => w * factors[channel(i)]!);
    const shifted = bias.map((b, c) => (b - mean[c]!) * factors[c]! + shift[c]!);
    replaceWeights(graph, layer, scaled, shifted);
    absorb(graph, layer, norm, outputs);
    folded.push({ layer: layer.path, norm: norm.path });
  }
  return folded;
}

function replaceWeights(graph: Graph, layer: Node, weight: Float64Array, bias: Float64Array): void {
  const [, old, oldBias] = layer.inputs;
  const name = old!.constant!.stateName ?? "";
  const biasName = oldBias?.constant?.stateName ?? name.replace(/weight$/, "bias");
  layer.inputs[1] = Object.assign(graph.list(weight, old!.shape, old!.type), { name });
  layer.inputs[2] = Object.assign(graph.list(bias, [bias.length], old!.type), { name: biasName });
}
