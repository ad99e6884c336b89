import { noGrad, scope, stack, type Tensor } from "evenkeel";
import type { DigitsNet, Watch } from "./model.js";

/** What a layer did in one training step. */
export interface LayerStatistics {
  readonly name: string;
  /** Of what comes out of its convolution, that is into its normalization. */
  readonly mean: number;
  readonly std: number;
  /** Share of numbers that the ReLU let through; null where there is none. */
  readonly active: number | null;
  /** Euclidean norm of the gradient of its weights, and that as a share of the weights' own norm. */
  readonly gradient: number;
  readonly relativeGradient: number;
}

const COLUMNS = 5;

/**
 * Watches one training step. Everything is computed on the model's device and read back in one piece, since each
 * reading from a GPU waits for it.
 */
export class LayerWatch {
  private readonly seen: { before?: [Tensor, Tensor]; active?: Tensor }[] = [];

  readonly watch: Watch = (layer, place, x) => {
    const values = x.detach();
    this.seen[layer] ??= {};
    if (place === "before") this.seen[layer].before = [values.mean(), values.variance(undefined, { correction: 0 })];
    else this.seen[layer].active = values.sign().mean();
  };

  /** All numbers as one tensor [layers, 5], once the gradients are there; call it in the scope of the step. */
  collect(model: DigitsNet): Tensor {
    return noGrad(() =>
      scope(() => {
        const rows = model.layers.map(({ weight }, i) => {
          const { before, active } = this.seen[i]!;
          const squares = (t: Tensor) => t.detach().square().sum();
          return stack([...before!, active ?? before![0], squares(weight.grad!), squares(weight)]);
        });
        return stack(rows);
      }),
    );
  }

  read(model: DigitsNet, numbers: ArrayLike<number>): LayerStatistics[] {
    return model.layers.map(({ name }, i) => {
      const [mean, variance, active, gradient, weight] = Array.from(
        { length: COLUMNS },
        (_, k) => numbers[i * COLUMNS + k]!,
      ) as [number, number, number, number, number];
      return {
        ...{ name, mean, std: Math.sqrt(variance) },
        active: this.seen[i]!.active ? active : null,
        gradient: Math.sqrt(gradient),
        relativeGradient: Math.sqrt(gradient / weight),
      };
    });
  }
}
