import { GradientReducer, sumGradients } from "../../dist/distributed/index.js";
import { F, manualSeed, nn, optim, randn, scope, tensor } from "../../dist/index.js";

const classes = 10;
const block = (from, to, norm) => [new nn.Conv2d(from, to, 3, { padding: 1 }), norm(to), new nn.ReLU()];

/** `inner`: the shape of a sample. `build`: the model with the normalization layer that `norm` makes for a number of channels. */
export const models = [
  {
    name: "digits CNN",
    ...{ batch: 32, inner: [1, 8, 8], normalized: true },
    build: (norm) =>
      new nn.Sequential(
        ...[...block(1, 16, norm), ...block(16, 32, norm), new nn.MaxPool2d(2), ...block(32, 32, norm)],
        ...[new nn.Flatten(), new nn.Linear(32 * 16, classes)],
      ),
    optimizer: (parameters) => new optim.AdamW(parameters, { lr: 1e-3 }),
  },
  {
    name: "CNN 28x28",
    ...{ batch: 64, inner: [1, 28, 28], normalized: true },
    build: (norm) =>
      new nn.Sequential(
        ...[...block(1, 32, norm), new nn.MaxPool2d(2), ...block(32, 64, norm), new nn.MaxPool2d(2)],
        ...[new nn.Flatten(), new nn.Linear(64 * 49, classes)],
      ),
    optimizer: (parameters) => new optim.SGD(parameters, { lr: 0.01, momentum: 0.9 }),
  },
  {
    name: "MLP",
    ...{ batch: 256, inner: [784], normalized: false },
    build: () =>
      new nn.Sequential(
        ...[new nn.Linear(784, 1024), new nn.ReLU(), new nn.Linear(1024, 1024), new nn.ReLU()],
        new nn.Linear(1024, classes),
      ),
    optimizer: (parameters) => new optim.SGD(parameters, { lr: 0.01, momentum: 0.9 }),
  },
];

/** Channels of each batch normalization, and elements of all parameters. */
export function sizesOf({ build }) {
  const channels = [];
  const model = build((c) => {
    channels.push(c);
    return new nn.BatchNorm2d(c);
  });
  const parameters = [...model.parameters()].reduce((sum, p) => sum + p.size, 0);
  model.dispose();
  return { channels, parameters };
}

/**
 * A model with its optimizer and the batch of this rank; step() trains on `samples` of it by the mean over all ranks' samples. Gradients are sent
 * while backward goes on, or in one message after it. Returns this rank's loss.
 */
export function training(
  { build, batch, inner, optimizer: optimizerOf },
  { communicator, seed, synchronized = false, sent = "during" },
) {
  manualSeed(7);
  const model = build((c) => (synchronized ? new nn.SyncBatchNorm(c, { communicator }) : new nn.BatchNorm2d(c)));
  const parameters = [...model.parameters()];
  const optimizer = optimizerOf(parameters);
  const reducer = sent === "during" ? new GradientReducer(communicator, parameters) : null;
  manualSeed(seed);
  const x = randn([batch, ...inner]);
  const y = tensor(
    Int32Array.from({ length: batch }, (_, i) => (i * 7 + seed) % classes),
    { dtype: "int32" },
  );
  const step = (samples = batch) =>
    scope(() => {
      const logits = model.forward(samples === batch ? x : x.narrow(0, 0, samples));
      const targets = samples === batch ? y : y.narrow(0, 0, samples);
      const loss = F.crossEntropy(logits, targets);
      optimizer.zeroGrad();
      if (reducer) loss.backward();
      else {
        loss.div(communicator.size).backward();
        sumGradients(communicator, parameters);
      }
      optimizer.step();
      return loss.item();
    });
  const dispose = () => {
    reducer?.close();
    optimizer.dispose();
    model.dispose();
    x.dispose();
    y.dispose();
  };
  return { step, parameters, dispose };
}
