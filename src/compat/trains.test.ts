import { expect, test } from "vitest";
import { ones, type Tensor, zeros } from "../autograd/index.js";
import { manualSeed } from "../base/random.js";
import { DataLoader, digits } from "../data/index.js";
import { scope } from "../memory/scope.js";
import * as F from "../nn/functional.js";
import { Conv2d, Flatten, Linear, MaxPool2d, Module, Parameter, ReLU, Sequential } from "../nn/index.js";
import { AdamW } from "../optim/index.js";
import { dll, flax, keras, mygrad, npdl, puzzlelib } from "./index.js";

/** mygrad has a function; its parameters belong to the network. */
class Normalized extends Module {
  readonly gamma: Parameter;
  readonly beta: Parameter;

  constructor(channels: number) {
    super();
    this.gamma = new Parameter(ones([channels]));
    this.beta = new Parameter(zeros([channels]));
  }

  override forward(x: Tensor): Tensor {
    return mygrad.batchnorm(x, { gamma: this.gamma, beta: this.beta, eps: 1e-5 });
  }
}

function initialised<L extends dll.BatchNorm | dll.GroupNorm>(layer: L, inputShape: number[]): L {
  layer.initialiseLayer({ inputShape });
  return layer;
}

function connected(layer: npdl.BatchNormal, outShape: (number | null)[]): npdl.BatchNormal {
  layer.connectTo({ outShape });
  return layer;
}

/** Two normalizations each: behind a convolution [N, 8, 4, 4] and behind a dense layer [N, 32]. */
const networks: Record<string, () => [Module, Module]> = {
  dll: () => [initialised(new dll.GroupNorm({ numGroups: 2 }), [8, 4, 4]), initialised(new dll.BatchNorm(), [32])],
  mygrad: () => [new Normalized(8), new Normalized(32)],
  npdl: () => [
    connected(new npdl.BatchNormal({ axis: 1 }), [null, 8, 4, 4]),
    connected(new npdl.BatchNormal(), [null, 32]),
  ],
  puzzlelib: () => [new puzzlelib.BatchNorm2D(8), new puzzlelib.BatchNorm(32)],
  // 0.99, the default of both, keeps half of the first statistics over the few steps there are.
  keras: () => [new keras.GroupNormalization({ groups: 2, axis: 1 }), new keras.BatchNormalization({ momentum: 0.9 })],
  flax: () => [new flax.BatchNorm({ axis: 1, momentum: 0.9 }), new flax.LayerNorm()],
};

test.each(Object.keys(networks))("a network with the layers of %s learns digits", (system) => {
  manualSeed(1);
  const [image, dense] = networks[system]!();
  const model = new Sequential(
    ...[new Conv2d(1, 8, 3, { padding: 1 }), new MaxPool2d(2), image, new ReLU()],
    ...[new Flatten(), new Linear(128, 32), dense, new ReLU(), new Linear(32, 10)],
  );
  const { train, test: unseen } = digits();
  const loader = new DataLoader(train, { batchSize: 64, shuffle: true, seed: 2, dropLast: true });
  // Keras's and Flax's layers learn their shapes from a first input, and only then have parameters.
  for (const batch of new DataLoader(unseen, { batchSize: 2 })) {
    scope(() => model.eval().forward(batch.x));
    batch.dispose();
    break;
  }
  const optimizer = new AdamW(model.parameters(), { lr: 0.01 });
  model.train();
  for (let epoch = 0; epoch < 4; epoch++) {
    for (const batch of loader) {
      scope(() => {
        optimizer.zeroGrad();
        F.crossEntropy(model.forward(batch.x), batch.y).backward();
        optimizer.step();
      });
      batch.dispose();
    }
  }
  model.eval();
  let right = 0;
  for (const batch of new DataLoader(unseen, { batchSize: 256 })) {
    right += scope(() => {
      const found = model.forward(batch.x).argMax(1).dataSync();
      return [...batch.y.dataSync()].filter((y, i) => y === found[i]).length;
    });
    batch.dispose();
  }
  model.dispose();
  expect(right / unseen.length).toBeGreaterThan(0.9);
});
