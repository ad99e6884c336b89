import { readFileSync } from "node:fs";
import * as evenkeel from "../../../dist/index.js";
import { serve } from "../serve.js";
import { elements } from "./elements.js";
import { norm } from "./norms.js";
import { conv, copy, matmul } from "./products.js";
import { step } from "./steps.js";

const kinds = { norm, matmul, conv, copy, step, elements };

await serve(({ threads, dtype = "float32", blas = false }) => {
  evenkeel.setThreads(threads);
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));
  let through = "";
  if (blas) {
    const found = evenkeel.setBlas("auto");
    if (!found) throw new Error("no BLAS library, or koffi is not installed");
    through = ` with ${found.library ?? found}`;
  }
  return { version: version + through, prepare: (subject, inputs) => kinds[subject.kind](subject, inputs, { dtype }) };
});
