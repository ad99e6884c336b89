import { readFileSync } from "node:fs";
import { theGpu } from "../../../dist/kernels/webgpu/device.js";
import { initWebGPU } from "../../../dist/kernels/webgpu/index.js";
import { serve } from "../serve.js";
import { copies } from "./copies.js";
import { elements } from "./elements.js";
import { norm } from "./norms.js";
import { conv, matmul } from "./products.js";
import { step } from "./steps.js";
import { timer } from "./timestamps.js";
import { countAccesses } from "./traffic.js";

const kinds = { norm, elements, matmul, conv, step, copy: copies };

await serve(async ({ traffic = false }) => {
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));
  const { vendor, architecture, description } = await initWebGPU();
  const { device } = theGpu();
  const accesses = traffic ? countAccesses(theGpu()) : null;
  const kernel = timer(theGpu());
  return {
    version,
    about: {
      ...{ vendor, architecture, description },
      // A driver that computes on the processor says so, but not every one by the flag.
      software: device.adapterInfo.isFallbackAdapter || /swiftshader|llvmpipe|software/i.test(description),
      features: [...device.features].filter((name) => /subgroups|f16|timestamp/.test(name)),
    },
    kernel,
    accesses,
    async prepare(subject, inputs) {
      const prepared = await kinds[subject.kind](subject, inputs, { dtype: subject.dtype, device: "webgpu" });
      await theGpu().finish();
      return { ...prepared, finish: () => theGpu().finish() };
    },
  };
});
