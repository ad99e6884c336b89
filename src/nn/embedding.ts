import { type Tensor, zeros } from "../autograd/index.js";
import { embedding } from "../autograd/ops/embedding.js";
import { checkPositiveInteger, readOptions } from "../base/options.js";
import { normalizeAxis } from "../base/shape.js";
import { scope } from "../memory/scope.js";
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
    const placed = readPlacement(o);
    this.paddingIdx = o.paddingIdx === null ? null : normalizeAxis(o.paddingIdx, numEmbeddings, "Embedding paddingIdx");
    this.weight = new Parameter(zeros([numEmbeddings, embeddingDim], placed));
    this.resetParameters();
  }

  /** Normal with mean 0 and standard deviation 1; zeros for paddingIdx. */
  resetParameters(): void {
    const { weight, paddingIdx, embeddingDim } = this;
    scope(() => {
      const drawn = normal_(zeros(weight.shape, { dtype: weight.dtype, device: "cpu" }));
      if (paddingIdx !== null) {
        const from = paddingIdx * embeddingDim;
        drawn.storage.view.fill(0, from, from + embeddingDim);
      }
      weight.assign(drawn);
    });
  }

  override forward(x: Tensor): Tensor {
    return embedding(x, this.weight, this.paddingIdx);
  }
}
