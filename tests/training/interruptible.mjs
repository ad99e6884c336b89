// Trains with slow steps and says each one, so that a test can send signals at known times. Arguments: the checkpoint's
// path or "-", and the step from which steps hang ("-": none do).
import { DataLoader, Dataset } from "../../dist/data/index.js";
import { Linear, MSELoss } from "../../dist/nn/index.js";
import { SGD } from "../../dist/optim/index.js";
import { Trainer } from "../../dist/train/index.js";

const [path, hangAt] = process.argv.slice(2);
const model = new Linear(2, 1);
const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
const data = new Dataset({ images: values, labels: values.slice(32), sampleShape: [2], labelShape: [1] });
const trainer = new Trainer({
  model,
  optimizer: new SGD(model.parameters(), { lr: 0.01 }),
  loss: new MSELoss(),
  train: new DataLoader(data, { batchSize: 4 }),
  epochs: 1000,
  ...(path === "-" ? {} : { checkpoint: { path } }),
  callbacks: [
    {
      async onStep({ step }) {
        process.stdout.write(`step ${step}\n`);
        await new Promise((resolve) => setTimeout(resolve, step === Number(hangAt) ? 60_000 : 5));
      },
    },
  ],
});
await trainer.fit();
