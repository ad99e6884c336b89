import { createRequire } from "node:module";
import { serve } from "../serve.js";
import { norm } from "./norms.js";
import { conv, matmul } from "./products.js";
import { step } from "./steps.js";

// TensorFlow.js's ES modules do not load in Node; its CommonJS files do.
const require = createRequire(import.meta.url);
const kinds = { norm, matmul, conv, step };

await serve(async ({ backend }) => {
  const tf = require("@tensorflow/tfjs");
  if (backend === "wasm") require("@tensorflow/tfjs-backend-wasm").setThreadsCount(1);
  await tf.setBackend(backend);
  await tf.ready();
  if (tf.getBackend() !== backend) throw new Error(`its ${backend} backend did not start`);
  return {
    version: `${tf.version.tfjs} ${backend}`,
    prepare: (subject, inputs) => kinds[subject.kind](tf, subject, inputs),
  };
});
