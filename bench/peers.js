// Batch normalization of [32, 64, 56, 56] float32 on one thread: Evenkeel, TensorFlow.js (wasm) and jax-js (wasm, jit).
// Checks first that all give the same numbers, then times them in turn and prints medians.
// Run: cd bench && npm ci && npm start
import { createRequire } from "node:module";
import * as jax from "@jax-js/jax";
import { nn, noGrad, Random, randn, scope, setThreads, tensor } from "evenkeel";

// TensorFlow.js's ES modules do not load in Node; its CommonJS files do.
const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
const tfWasm = require("@tensorflow/tfjs-backend-wasm");

const shape = [32, 64, 56, 56];
const [, channels] = shape;
const eps = 1e-5;
const rounds = 15;
const warmUp = 5;

setThreads(1);
const random = new Random(1);
const values = randn(shape, { random }).add(1.5).dataSync();
const cotangent = randn(shape, { random });

const layer = new nn.BatchNorm2d(channels, { eps });
const x = tensor(values, { shape });

tfWasm.setThreadsCount(1);
await tf.setBackend("wasm");
await tf.ready();
// Channels last, the layout its batch normalization is right for.
const xTf = tf.transpose(tf.tensor4d(values, shape), [0, 2, 3, 1]);
const [zero, one] = [tf.zeros([channels]), tf.ones([channels])];
const normTf = () => {
  const { mean, variance } = tf.moments(xTf, [0, 1, 2]);
  return tf.batchNorm(xTf, mean, variance, zero, one, eps);
};

await jax.init("wasm");
jax.defaultDevice("wasm");
const np = jax.numpy;
const xJax = np.array(values).reshape(shape);
const weights = np.array(cotangent.dataSync()).reshape(shape);
const normalize = (v) => {
  const centred = v.ref.sub(np.mean(v, [0, 2, 3], { keepdims: true }));
  const variance = np.mean(centred.ref.mul(centred.ref), [0, 2, 3], { keepdims: true });
  return centred.mul(np.reciprocal(np.sqrt(variance.add(eps))));
};
const normJax = jax.jit(normalize);
const gradJax = jax.jit(jax.grad((v, w) => normalize(v).mul(w).sum()));

function largestDifference(a, b) {
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  return worst;
}
const ours = noGrad(() => layer.forward(x)).dataSync();
const theirs = {
  "TensorFlow.js": await tf.transpose(normTf(), [0, 3, 1, 2]).data(),
  "jax-js": await normJax(xJax.ref).data(),
};
for (const [name, y] of Object.entries(theirs)) {
  const difference = largestDifference(ours, y);
  if (!(difference < 1e-4)) throw new Error(`${name} differs by ${difference}; nothing is timed`);
  console.log(`${name} agrees within ${difference.toExponential(1)}`);
}

const finished = async (array) => {
  await array.blockUntilReady();
  array.dispose();
};
const cases = {
  "Evenkeel forward": () => scope(() => void noGrad(() => layer.forward(x))),
  "TensorFlow.js forward": () => tf.tidy(() => void normTf()),
  "jax-js forward": () => finished(normJax(xJax.ref)),
  "Evenkeel forward + backward": () => {
    scope(() => {
      layer.forward(x);
      layer.backward(cotangent);
    });
  },
  "jax-js forward + backward": () => finished(gradJax(xJax.ref, weights.ref)),
};
const times = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
for (let round = 0; round < rounds + warmUp; round++) {
  for (const [name, run] of Object.entries(cases)) {
    const start = performance.now();
    await run();
    if (round >= warmUp) times[name].push(performance.now() - start);
  }
}
for (const [name, list] of Object.entries(times)) {
  list.sort((a, b) => a - b);
  const [low, middle, high] = [list[0], list[list.length >> 1], list[list.length - 1]];
  console.log(`${name.padEnd(28)} ${middle.toFixed(1)} ms (${low.toFixed(1)} to ${high.toFixed(1)})`);
}
process.exit(0);
