import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers";

// Keeps its advice about a faster backend for Node out of the tests' output.
tf.env().set("PROD", true);

/** Starts a backend of TensorFlow.js. The wasm one runs on one thread, and finds its files itself in Node. */
export async function start(backend: "cpu" | "wasm"): Promise<void> {
  if (backend === "wasm") (await import("@tensorflow/tfjs-backend-wasm")).setThreadsCount(1);
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js's ${backend} backend did not start`);
  await tf.ready();
}
