import { createRequire } from "node:module";

// The TensorFlow.js that dist/tfjs imports is the one of the folder above. Another in this bench's own node_modules would have
// layers, backends and a registry of its own.
const require = createRequire(new URL("../../package.json", import.meta.url));

/** TensorFlow.js on a backend, and its layers beside Evenkeel's, on as many threads. */
export async function open(backend, threads) {
  const tf = require("@tensorflow/tfjs-core");
  const tfl = require("@tensorflow/tfjs-layers");
  require("@tensorflow/tfjs-backend-cpu");
  require("@tensorflow/tfjs-backend-wasm").setThreadsCount(threads);
  // Without its advice on another backend for Node.
  tf.env().set("PROD", true);
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js's ${backend} backend did not start`);
  await tf.ready();
  const { setThreads } = await import("../../dist/index.js");
  setThreads(threads);
  const ours = await import("../../dist/tfjs/index.js");
  return { tf, tfl, ours };
}
