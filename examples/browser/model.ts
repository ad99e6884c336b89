import { F, nn, type Tensor } from "evenkeel";
import type { MakeNormalization } from "./normalizations.js";

/** What is shown to someone who watches a forward pass: the numbers of a layer at one place. */
export type Watch = (layer: number, place: "before" | "after", x: Tensor) => void;

const SIZE = 8;
const CLASSES = 10;
/** Output channels of each convolution, and whether a pooling to half the size follows. */
const plan = [
  { channels: 16, pool: false },
  { channels: 32, pool: true },
  { channels: 32, pool: false },
] as const;

/** Convolution 3 x 3, normalization, ReLU. */
class Block extends nn.Module {
  readonly conv: nn.Conv2d;
  readonly norm: nn.Module | null;

  constructor(from: number, to: number, size: number, make: MakeNormalization) {
    super();
    this.conv = new nn.Conv2d(from, to, 3, { padding: 1 });
    this.norm = make?.(to, size) ?? null;
  }

  override forward(x: Tensor, layer: number, watch?: Watch): Tensor {
    const before = this.conv.forward(x);
    watch?.(layer, "before", before);
    const after = F.relu(this.norm?.forward(before) ?? before);
    watch?.(layer, "after", after);
    return after;
  }
}

/** A small CNN for images [N, 1, 8, 8]: the same for every normalization, so that this is all that differs. */
export class DigitsNet extends nn.Module {
  readonly blocks: Block[] = [];
  readonly pool = new nn.MaxPool2d(2);
  readonly head: nn.Linear;

  constructor(make: MakeNormalization) {
    super();
    let [channels, size] = [1, SIZE];
    for (const step of plan) {
      this.blocks.push(new Block(channels, step.channels, size, make));
      channels = step.channels;
      if (step.pool) size /= 2;
    }
    this.head = new nn.Linear(channels * size * size, CLASSES);
  }

  override forward(x: Tensor, watch?: Watch): Tensor {
    for (const [layer, block] of this.blocks.entries()) {
      x = block.forward(x, layer, watch);
      if (plan[layer]!.pool) x = this.pool.forward(x);
    }
    const logits = this.head.forward(x.flatten(1));
    watch?.(this.blocks.length, "before", logits);
    return logits;
  }

  /** Each layer's name and the weights whose gradient is shown. */
  get layers(): { readonly name: string; readonly weight: Tensor }[] {
    const blocks = this.blocks.map((block, i) => ({ name: `conv ${i + 1}`, weight: block.conv.weight }));
    return [...blocks, { name: "linear", weight: this.head.weight }];
  }
}
