import { matmul, type Tensor, zeros } from "../autograd/index.js";
import { dropout } from "../autograd/ops/dropout.js";
import { softmax } from "../autograd/ops/softmax.js";
import { OptionError, ShapeError } from "../base/errors.js";
import { checkBoolean, checkPositiveInteger, checkProbability, readOptions } from "../base/options.js";
import { formatShape } from "../base/shape.js";
import { scope } from "../memory/scope.js";
import { type AttentionShape, causalBias, keyPaddingBias, pairBias } from "./attention_mask.js";
import { xavierUniform_, zeros_ } from "./init.js";
import { Linear, linear } from "./linear.js";
import { Module, Parameter } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export interface MultiheadAttentionOptions extends PlacementOptions {
  /** Probability of dropping an attention weight in training. Default 0. */
  readonly dropout?: number;
  readonly bias?: boolean;
  /** Features of keys and of values, where they differ from embedDim. */
  readonly kdim?: number | null;
  readonly vdim?: number | null;
  /** Inputs are [N, L, E] instead of [L, N, E]. Default false. */
  readonly batchFirst?: boolean;
}

export interface AttentionOptions {
  /** [N, S]: int32, not 0 where a key is padding; or floats that are added to the scores. */
  readonly keyPaddingMask?: Tensor | null;
  /** [L, S] or [N * numHeads, L, S]: int32, not 0 where a query must not see a key; or floats that are added. */
  readonly attnMask?: Tensor | null;
  /** A query sees no key after its own position. Unlike in PyTorch this needs no attnMask beside it. Default false. */
  readonly isCausal?: boolean;
}

export interface AttentionResult {
  readonly output: Tensor;
  /** The mean over heads [N, L, S], or each head's [N, H, L, S]; after dropout, as in PyTorch. */
  readonly weights: Tensor;
}

const noMasks = { keyPaddingMask: null as Tensor | null, attnMask: null as Tensor | null, isCausal: false };

/**
 * Softmax(q k^T / sqrt(E / numHeads)) v for each head, of linear maps of query, key and value; then a linear map.
 *
 * Shapes: query [L, N, E], key [S, N, kdim], value [S, N, vdim], output [L, N, E]; N first with batchFirst; no N for a
 * single sample. `forward` returns the output alone; `attend` returns { output, weights } (PyTorch's needWeights).
 * State:  in_proj_weight [3 E, E] (or q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias [3 E],
 *         out_proj.weight, out_proj.bias.
 * Source: Vaswani et al. 2017, arXiv:1706.03762.
 */
export class MultiheadAttention extends Module {
  readonly inProjWeight: Parameter | null;
  readonly qProjWeight: Parameter | null;
  readonly kProjWeight: Parameter | null;
  readonly vProjWeight: Parameter | null;
  readonly inProjBias: Parameter | null;
  readonly outProj: Linear;
  readonly dropout: number;
  readonly batchFirst: boolean;
  readonly kdim: number;
  readonly vdim: number;

  constructor(
    readonly embedDim: number,
    readonly numHeads: number,
    options?: MultiheadAttentionOptions,
  ) {
    super();
    const o = readOptions("MultiheadAttention", options, {
      ...{ dropout: 0, bias: true, batchFirst: false, ...placementDefaults },
      ...{ kdim: null as number | null, vdim: null as number | null },
    });
    const placed = readPlacement(o);
    checkPositiveInteger("MultiheadAttention embedDim", embedDim);
    checkPositiveInteger("MultiheadAttention numHeads", numHeads);
    if (embedDim % numHeads !== 0) {
      throw new OptionError({
        rule: "MultiheadAttention splits embedDim evenly among its heads",
        got: `embedDim ${embedDim} and numHeads ${numHeads}`,
      });
    }
    this.dropout = checkProbability("MultiheadAttention dropout", o.dropout);
    this.batchFirst = checkBoolean("MultiheadAttention batchFirst", o.batchFirst);
    this.kdim = checkPositiveInteger("MultiheadAttention kdim", o.kdim ?? embedDim);
    this.vdim = checkPositiveInteger("MultiheadAttention vdim", o.vdim ?? embedDim);
    const joint = this.kdim === embedDim && this.vdim === embedDim;
    const weight = (rows: number, columns: number) => new Parameter(zeros([rows, columns], placed));
    this.inProjWeight = joint ? weight(3 * embedDim, embedDim) : null;
    this.qProjWeight = joint ? null : weight(embedDim, embedDim);
    this.kProjWeight = joint ? null : weight(embedDim, this.kdim);
    this.vProjWeight = joint ? null : weight(embedDim, this.vdim);
    this.inProjBias = checkBoolean("MultiheadAttention bias", o.bias)
      ? new Parameter(zeros([3 * embedDim], placed))
      : null;
    this.outProj = new Linear(embedDim, embedDim, { bias: o.bias, ...placed });
    this.resetParameters();
  }

  /** Xavier uniform for the input maps, zeros for all biases; the output map as Linear has it. */
  resetParameters(): void {
    for (const w of [this.inProjWeight, this.qProjWeight, this.kProjWeight, this.vProjWeight]) {
      if (w) xavierUniform_(w);
    }
    for (const b of [this.inProjBias, this.outProj.bias]) if (b) zeros_(b);
  }

  override forward(query: Tensor, key: Tensor, value: Tensor, options?: AttentionOptions): Tensor {
    return scope(() => this.#attend(query, key, value, readOptions("MultiheadAttention", options, noMasks)).output);
  }

  /** The output together with the attention weights. */
  attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options?: AttentionOptions & { /** Mean over heads; default true. */ readonly averageWeights?: boolean },
  ): AttentionResult {
    const { averageWeights, ...masks } = readOptions("MultiheadAttention", options, {
      ...noMasks,
      averageWeights: true,
    });
    return scope(() => {
      const { output, weights } = this.#attend(query, key, value, masks);
      const shown = averageWeights ? weights.mean(1) : weights;
      return { output, weights: query.rank === 2 ? shown.reshape(shown.shape.slice(1)) : shown };
    });
  }

  #attend(query: Tensor, key: Tensor, value: Tensor, masks: typeof noMasks): AttentionResult {
    this.#check(query, key, value);
    const single = query.rank === 2;
    const batchFirst = (t: Tensor) => (single ? t.reshape([1, ...t.shape]) : this.batchFirst ? t : t.transpose(0, 1));
    const self = query === key && key === value;
    const [q, k, v] = self
      ? this.#projectSelf(batchFirst(query))
      : this.#project(batchFirst(query), batchFirst(key), batchFirst(value));
    const { dtype } = q;
    const shape = { batch: q.shape[0]!, heads: this.numHeads, queries: q.shape[1]!, keys: k.shape[1]! };
    const size = this.embedDim / this.numHeads;
    const byHead = (t: Tensor) => t.reshape([shape.batch, t.shape[1]!, this.numHeads, size]).permute([0, 2, 1, 3]);
    let scores = matmul(byHead(q.mul(1 / Math.sqrt(size))), byHead(k), { transposeB: true });
    for (const bias of this.#biases(masks, shape, dtype)) scores = scores.add(bias);
    const all = softmax(scores);
    const weights = this.training ? dropout(all, this.dropout) : all;
    const heads = matmul(weights, byHead(v)).permute([0, 2, 1, 3]).reshape([shape.batch, shape.queries, this.embedDim]);
    const mixed = linear(heads, this.outProj.weight, this.outProj.bias);
    const output = single ? mixed.reshape(mixed.shape.slice(1)) : this.batchFirst ? mixed : mixed.transpose(0, 1);
    return { output, weights };
  }

  #biases(
    { keyPaddingMask, attnMask, isCausal }: typeof noMasks,
    shape: AttentionShape,
    dtype: Tensor["dtype"],
  ): Tensor[] {
    return [
      ...(attnMask ? [pairBias(attnMask, shape, dtype)] : []),
      ...(keyPaddingMask ? [keyPaddingBias(keyPaddingMask, shape, dtype)] : []),
      ...(isCausal ? [causalBias(shape, dtype)] : []),
    ];
  }

  /** The three linear maps of one x [N, L, E], as a single product where their weights are one. */
  #projectSelf(x: Tensor): [Tensor, Tensor, Tensor] {
    if (!this.inProjWeight) return this.#project(x, x, x);
    const e = this.embedDim;
    const all = linear(x, this.inProjWeight, this.inProjBias);
    return [all.narrow(2, 0, e), all.narrow(2, e, e), all.narrow(2, 2 * e, e)];
  }

  #project(query: Tensor, key: Tensor, value: Tensor): [Tensor, Tensor, Tensor] {
    const e = this.embedDim;
    const own = [this.qProjWeight, this.kProjWeight, this.vProjWeight];
    const part = (x: Tensor, i: number) =>
      linear(x, own[i] ?? this.inProjWeight!.narrow(0, i * e, e), this.inProjBias?.narrow(0, i * e, e));
    return [part(query, 0), part(key, 1), part(value, 2)];
  }

  #check(query: Tensor, key: Tensor, value: Tensor): void {
    const layout = this.batchFirst ? "[N, length, features]" : "[length, N, features]";
    const [batchAxis, lengthAxis] = this.batchFirst ? [0, 1] : [1, 0];
    const rank = query.rank;
    const of = (t: Tensor, axis: number) => (rank === 2 ? (axis === lengthAxis ? t.shape[0] : 1) : t.shape[axis]);
    const fits =
      (rank === 2 || rank === 3) &&
      [key, value].every((t) => t.rank === rank && of(t, batchAxis) === of(query, batchAxis)) &&
      of(key, lengthAxis) === of(value, lengthAxis) &&
      [query, key, value].every((t, i) => t.shape[rank - 1] === [this.embedDim, this.kdim, this.vdim][i]);
    if (fits) return;
    throw new ShapeError({
      rule: `MultiheadAttention takes ${layout} (or no N) with ${this.embedDim}, ${this.kdim} and ${this.vdim} features, one N, and as many values as keys`,
      got: [query, key, value].map((t) => formatShape(t.shape)).join(", "),
      fix: this.batchFirst ? "Permute N to the front" : "Pass { batchFirst: true } to the constructor if N comes first",
    });
  }
}
