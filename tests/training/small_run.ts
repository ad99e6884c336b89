import { linear, rand, randn, type Tensor } from "../../src/autograd/index.js";
import { manualSeed, Random } from "../../src/base/random.js";
import { DataLoader, Dataset } from "../../src/data/browser.js";
import { Module, Parameter } from "../../src/nn/module.js";
import { AdamW, CosineWarmup } from "../../src/optim/index.js";

/** Two layers with dropout between them, small enough for hundreds of steps in a test. */
export class SmallNet extends Module {
  readonly first: Parameter;
  readonly firstBias: Parameter;
  readonly second: Parameter;

  constructor(hidden = 8) {
    super();
    this.first = new Parameter(randn([hidden, 3]));
    this.firstBias = new Parameter(randn([hidden]));
    this.second = new Parameter(randn([2, hidden]));
  }

  override forward(x: Tensor): Tensor {
    const h = linear({ x, weight: this.first, bias: this.firstBias }, {}).tanh();
    const dropped = this.training ? h.mul(rand(h.shape).greaterEqual(0.25)).div(0.75) : h;
    return linear({ x: dropped, weight: this.second, bias: null }, {});
  }
}

/** Cross entropy of two classes, from primitives. */
export function loss(output: Tensor, y: Tensor): Tensor {
  const signs = y.mul(2).sub(1).to("float32");
  const margin = output
    .narrow(1, 1, 1)
    .sub(output.narrow(1, 0, 1))
    .reshape([-1]);
  return margin.mul(signs).neg().softplus().mean();
}

export function data(samples: number, seed = 5): Dataset {
  const random = new Random(seed);
  const images = Float32Array.from({ length: 3 * samples }, () => random.normal());
  const labels = Int32Array.from({ length: samples }, (_, i) => (images[3 * i]! + images[3 * i + 1]! > 0 ? 1 : 0));
  return new Dataset({ images, labels, sampleShape: [3] });
}

/** All that a trainer takes, made anew: 11 batches in an epoch, the last one smaller. */
export function parts(hidden = 8, seed = 1) {
  manualSeed(seed);
  const model = new SmallNet(hidden);
  const optimizer = new AdamW(model.parameters(), { lr: 0.05 });
  return {
    model,
    optimizer,
    loss,
    train: new DataLoader(data(84), { batchSize: 8, shuffle: true }),
    test: new DataLoader(data(40, 6), { batchSize: 16 }),
    scheduler: new CosineWarmup(optimizer, { warmup: 3, total: 33 }),
    schedulerEvery: "step" as const,
    clipNorm: 1,
    epochs: 3,
  };
}
