import { type Tensor, zeros } from "../autograd/index.js";
import { embedding } from "../autograd/ops/embedding.js";
import { checkPositiveInteger, readOptions } from "../base/options.js";
import { normalizeAxis } from "../base/shape.js";
import { normal_ } from "./init.js";
import { Module, Parameter } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export interface EmbeddingOptions extends PlacementOptions {
  /** A row that begins as zeros and is not learned; negative counts from the end. */
  readonly paddingIdx?: number | null;
}

/** A learned row for each number. Shapes: x any (int32), y [..., embeddingDim]. State: weight [numEmbeddings, embeddingDim]. */
export class Embedding extends Module {
  readonly weight: Parameter;
  readonly paddingIdx: number | null;

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options?: EmbeddingOptions,
  ) {
    super();
    checkPositiveInteger("Embedding numEmbeddings", numEmbeddings);
    checkPositiveInteger("Embedding embeddingDim", embeddingDim);
    const o = readOptions("Embedding", options, { paddingIdx: null as number | null, ...placementDefaults });
    const { dtype } = readPlacement(o);
    this.paddingIdx = o.paddingIdx === null ? null : normalizeAxis(o.paddingIdx, numEmbeddings, "Embedding paddingIdx");
    this.weight = new Parameter(zeros([numEmbeddings, embeddingDim], { dtype }));
    this.resetParameters();
  }

  /** Normal with mean 0 and standard deviation 1; zeros for paddingIdx. */
  resetParameters(): void {
    normal_(this.weight);
    if (this.paddingIdx === null) return;
    const from = this.paddingIdx * this.embeddingDim;
    this.weight.storage.view.fill(0, from, from + this.embeddingDim);
  }

  override forward(x: Tensor): Tensor {
    return embedding(x, this.weight, this.paddingIdx);
  }
}
