// What is timed: a layer's training step (forward, and the gradients of x, gamma and beta), and a step of model.fit.
const kinds = {
  batch: {
    ours: ({ ours }) => new ours.BatchNormalization(),
    stock: ({ tfl }) => tfl.layers.batchNormalization(),
  },
  layer: {
    ours: ({ ours }) => new ours.LayerNormalization(),
    stock: ({ tfl }) => tfl.layers.layerNormalization(),
  },
};
export const sides = ["ours", "stock"];

/** Values that differ from place to place and are the same in every run. */
const waves = (tf, shape, pace) => {
  const size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(pace * i) + Math.sin(0.37 * pace * i)),
    shape,
  );
};

function layerStep(kind, shape) {
  return (libraries, side) => {
    const { tf } = libraries;
    const layer = kinds[kind][side](libraries);
    const [x, dy] = [waves(tf, shape, 1.7), waves(tf, shape, 2.3)];
    tf.tidy(() => void layer.apply(x));
    const weights = layer.trainableWeights.map((w) => w.read());
    const gradients = tf.grads((t) => layer.apply(t, { training: true }));
    return {
      step: () => tf.dispose(gradients([x, ...weights], dy)),
      results: () => tf.tidy(() => gradients([x, ...weights], dy).map((t) => Float32Array.from(t.dataSync()))),
      dispose: () => {
        tf.dispose([x, dy]);
        layer.dispose();
      },
    };
  };
}

/** A forward pass alone, without a gradient: what predict does. */
function predictStep(kind, shape) {
  return (libraries, side) => {
    const { tf } = libraries;
    const layer = kinds[kind][side](libraries);
    const x = waves(tf, shape, 1.7);
    const forward = () => layer.apply(x, { training: false });
    tf.dispose(forward());
    return {
      step: () => tf.dispose(forward()),
      results: () => tf.tidy(() => [Float32Array.from(forward().dataSync())]),
      dispose: () => {
        x.dispose();
        layer.dispose();
      },
    };
  };
}

/** One batch through a dense network with two normalizations: forward, backward and Adam. */
function fitStep(kind, batch, width) {
  return (libraries, side) => {
    const { tf, tfl } = libraries;
    const model = tfl.sequential();
    for (const first of [true, false]) {
      const kernelInitializer = tfl.initializers.glorotUniform({ seed: first ? 1 : 2 });
      model.add(tfl.layers.dense({ units: width, kernelInitializer, ...(first ? { inputShape: [64] } : {}) }));
      model.add(kinds[kind][side](libraries));
      model.add(tfl.layers.reLU());
    }
    model.add(tfl.layers.dense({ units: 10, kernelInitializer: tfl.initializers.glorotUniform({ seed: 3 }) }));
    model.compile({ optimizer: tf.train.adam(1e-3), loss: "meanSquaredError" });
    const [x, y] = [waves(tf, [batch, 64], 1.7), waves(tf, [batch, 10], 2.3)];
    return {
      step: () => model.trainOnBatch(x, y),
      async results() {
        const losses = [];
        for (let i = 0; i < 3; i++) losses.push(await model.trainOnBatch(x, y));
        return [Float32Array.from(losses)];
      },
      dispose: () => {
        tf.dispose([x, y]);
        model.dispose();
      },
    };
  };
}

export const cases = [
  ...["batch", "layer"].flatMap((kind) => [
    { name: `${kind} [32,16,16,64] train`, open: layerStep(kind, [32, 16, 16, 64]) },
    { name: `${kind} [64,512] train`, open: layerStep(kind, [64, 512]) },
    { name: `${kind} [32,16,16,64] predict`, open: predictStep(kind, [32, 16, 16, 64]) },
    { name: `${kind} dense fit`, open: fitStep(kind, 64, 256) },
  ]),
];
