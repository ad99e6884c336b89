// A TensorFlow.js model with Evenkeel's layers: trained on digits, saved, and read back.
// Run: npm install @tensorflow/tfjs-core @tensorflow/tfjs-layers @tensorflow/tfjs-backend-cpu && node examples/tfjs_digits.js
import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import "@tensorflow/tfjs-backend-cpu";
import { digits } from "evenkeel/data";
import { BatchNormalization, GroupNormalization, LayerNormalization } from "evenkeel/tfjs";

const tensorsOf = ({ images, labels, length }) => ({
  x: tf.tensor(images, [length, 64]),
  y: tf.oneHot(tf.tensor1d(labels, "int32"), 10),
});

function perceptron() {
  const dense = (units, seed, first = {}) =>
    tfl.layers.dense({ units, kernelInitializer: tfl.initializers.heNormal({ seed }), ...first });
  return tfl.sequential({
    layers: [
      dense(96, 1, { inputShape: [64] }),
      new BatchNormalization({ momentum: 0.9 }),
      tfl.layers.reLU(),
      dense(96, 2),
      new GroupNormalization({ groups: 8 }),
      tfl.layers.reLU(),
      dense(48, 3),
      new LayerNormalization(),
      tfl.layers.reLU(),
      dense(10, 4),
    ],
  });
}

/** The share of images that a model reads correctly. */
const accuracyOf = (model, { x, y }) =>
  tf.tidy(() => tf.mean(tf.cast(tf.equal(tf.argMax(model.predict(x), -1), tf.argMax(y, -1)), "float32")).dataSync()[0]);

/** What model.save hands to a browser's downloads or to files, kept in memory. */
async function saved(model) {
  let artifacts;
  await model.save(
    tf.io.withSaveHandler(async (given) => {
      artifacts = given;
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" } };
    }),
  );
  return artifacts;
}

/** Trains; returns the accuracy on the test digits, and that of the model after it was saved and read. */
export async function main({ epochs = 5, log = console.log } = {}) {
  await tf.setBackend("cpu");
  const { train, test } = digits();
  const [seen, held] = [tensorsOf(train), tensorsOf(test)];
  const model = perceptron();
  model.compile({ optimizer: tf.train.adam(3e-3), loss: tf.losses.softmaxCrossEntropy });
  // Without shuffling every run is the same; TensorFlow.js has no seed for it.
  const onEpochEnd = (epoch, logs) => log(`epoch ${epoch + 1}: loss ${logs.loss.toFixed(4)}`);
  await model.fit(seen.x, seen.y, { epochs, batchSize: 32, shuffle: false, verbose: 0, callbacks: { onEpochEnd } });

  const trained = accuracyOf(model, held);
  // The layers are known to TensorFlow.js by name: nothing else is needed to read them.
  const back = await tfl.loadLayersModel(tf.io.fromMemory(await saved(model)));
  const read = accuracyOf(back, held);
  log(`test accuracy ${(100 * trained).toFixed(1)} %, saved and read ${(100 * read).toFixed(1)} %`);
  for (const one of [model, back]) one.dispose();
  tf.dispose([seen, held]);
  return { trained, read };
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
