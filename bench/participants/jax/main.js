import { readFileSync } from "node:fs";
import { serve } from "../serve.js";
import { norm } from "./norms.js";
import { conv, matmul } from "./products.js";
import { step } from "./steps.js";

const kinds = { norm, matmul, conv, step };

await serve(async () => {
  const jax = await import("@jax-js/jax");
  const devices = await jax.init("wasm");
  if (!devices.includes("wasm")) throw new Error("its wasm backend did not start");
  jax.defaultDevice("wasm");
  const place = new URL("../package.json", import.meta.resolve("@jax-js/jax"));
  const { version } = JSON.parse(readFileSync(place, "utf8"));
  return { version: `${version} wasm, jit`, prepare: (subject, inputs) => kinds[subject.kind](jax, subject, inputs) };
});
