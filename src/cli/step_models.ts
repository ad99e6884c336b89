import { randn, type Tensor, tensor } from "../autograd/index.js";
import { manualSeed, Random } from "../base/random.js";
import { own, scope } from "../memory/scope.js";
import {
  BatchNorm2d,
  Conv2d,
  CrossEntropyLoss,
  Flatten,
  GELU,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  MSELoss,
  MultiheadAttention,
  ReLU,
  Sequential,
} from "../nn/index.js";
import { Adam, AdamW, type OptimizerState, SGD } from "../optim/index.js";
import { convNet } from "./models.js";

interface StepOptimizer {
  step(): void;
  zeroGrad(): void;
  stateDict(): OptimizerState;
  dispose(): void;
}

/** A model with its optimizer and one batch, ready to be trained on that batch again and again. */
export interface TrainingStep {
  readonly model: Module;
  readonly optimizer: StepOptimizer;
  readonly loss: Module;
  /** The batch: what goes in, and what should come out. */
  readonly batch: { readonly input: Tensor; readonly target: Tensor };
  /** The loss, recorded. */
  forward(): Tensor;
  /** Forward, backward and update; the loss, without which `step` does the same in a scope and reads it. */
  update(): Tensor;
  step(): number;
}

export interface StepModel {
  readonly name: string;
  readonly description: string;
  /** Lengths that the model is made from, so that the same can be built elsewhere. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Equal seeds give equal parameters and equal batches. */
  build(seed: number): TrainingStep;
}

function trainingStep(
  model: Module,
  optimizer: StepOptimizer,
  loss: Module,
  input: Tensor,
  target: Tensor,
): TrainingStep {
  own(input);
  own(target);
  const forward = () => loss.forward(model.forward(input), target) as Tensor;
  const update = () => {
    optimizer.zeroGrad();
    const value = forward();
    value.backward();
    optimizer.step();
    return value;
  };
  return {
    ...{ model, optimizer, loss, forward, update },
    batch: { input, target },
    step: () => scope(() => update().item()),
  };
}

/** Class numbers from 0 to classes - 1. */
function labels(count: number, classes: number): Tensor {
  const random = new Random(count);
  return tensor(
    Array.from({ length: count }, () => random.bits() % classes),
    { dtype: "int32" },
  );
}

/** x + attention(norm(x)), then x + mlp(norm(x)). Shapes: [N, L, E] in and out. */
class TransformerBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attention: MultiheadAttention;
  readonly norm2: LayerNorm;
  readonly mlp: Sequential;

  constructor(features: number, heads: number, hidden: number) {
    super();
    this.norm1 = new LayerNorm(features);
    this.attention = new MultiheadAttention(features, heads, { batchFirst: true });
    this.norm2 = new LayerNorm(features);
    this.mlp = new Sequential(new Linear(features, hidden), new GELU(), new Linear(hidden, features));
  }

  override forward(x: Tensor): Tensor {
    const a = this.norm1.forward(x);
    const y = x.add(this.attention.forward(a, a, a));
    return y.add(this.mlp.forward(this.norm2.forward(y)));
  }
}

const digits = { batch: 32, size: 8, classes: 10 };
const digitsCnn: StepModel = {
  name: "digits-cnn",
  description: "three blocks of 3x3 convolution, BatchNorm and ReLU on 8x8 digits; AdamW",
  sizes: digits,
  build(seed) {
    manualSeed(seed);
    const { batch, size, classes } = digits;
    const model = convNet({ imageShape: [1, size, size], classes }, "batch");
    const optimizer = new AdamW(model.parameters(), { lr: 1e-3 });
    return trainingStep(
      model,
      optimizer,
      new CrossEntropyLoss(),
      randn([batch, 1, size, size]),
      labels(batch, classes),
    );
  },
};

const images = { batch: 64, size: 28, first: 32, second: 64, classes: 10 };
const cnn: StepModel = {
  name: "cnn",
  description: "two blocks of 3x3 convolution, BatchNorm, ReLU and 2x2 max pooling on 28x28 images; SGD with momentum",
  sizes: images,
  build(seed) {
    manualSeed(seed);
    const { batch, size, first, second, classes } = images;
    const pooled = Math.floor(size / 4);
    const model = new Sequential(
      ...[new Conv2d(1, first, 3, { padding: 1 }), new BatchNorm2d(first), new ReLU(), new MaxPool2d(2)],
      ...[new Conv2d(first, second, 3, { padding: 1 }), new BatchNorm2d(second), new ReLU(), new MaxPool2d(2)],
      ...[new Flatten(), new Linear(second * pooled * pooled, classes)],
    );
    const optimizer = new SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
    const input = randn([batch, 1, size, size]);
    return trainingStep(model, optimizer, new CrossEntropyLoss(), input, labels(batch, classes));
  },
};

const rows = { batch: 256, input: 784, hidden: 1024, classes: 10 };
const mlp: StepModel = {
  name: "mlp",
  description: "three linear layers with ReLU between them; SGD with momentum",
  sizes: rows,
  build(seed) {
    manualSeed(seed);
    const { batch, input, hidden, classes } = rows;
    const model = new Sequential(
      ...[new Linear(input, hidden), new ReLU(), new Linear(hidden, hidden), new ReLU()],
      new Linear(hidden, classes),
    );
    const optimizer = new SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
    return trainingStep(model, optimizer, new CrossEntropyLoss(), randn([batch, input]), labels(batch, classes));
  },
};

const sequences = { batch: 16, length: 128, features: 256, heads: 8, hidden: 1024 };
const transformer: StepModel = {
  name: "transformer",
  description: "one transformer block, normalization first, with a GELU network; Adam",
  sizes: sequences,
  build(seed) {
    manualSeed(seed);
    const { batch, length, features, heads, hidden } = sequences;
    const model = new TransformerBlock(features, heads, hidden);
    const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
    const shape = [batch, length, features];
    return trainingStep(model, optimizer, new MSELoss(), randn(shape), randn(shape));
  },
};

/** The training steps that `evenkeel bench` times. */
export const stepModels: readonly StepModel[] = [digitsCnn, cnn, mlp, transformer];
