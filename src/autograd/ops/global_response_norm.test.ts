import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { globalResponseNorm } from "./global_response_norm.js";

checkOps(
  "global_response_norm",
  [
    { shape: [3, 4, 5], axis: 1, channels: 4 },
    { shape: [2, 3, 4, 3], axis: 1, channels: 3 },
    { shape: [2, 4, 3, 5], axis: -1, channels: 5 },
    { shape: [2, 4, 3, 5], axis: 2, channels: 3 },
    { shape: [3, 4], axis: 1, channels: 4 },
  ].map(({ shape, axis, channels }) => ({
    name: `[${shape}], axis ${axis}`,
    inputs: [normal(shape), normal([channels]), normal([channels])],
    apply: (x, weight, bias) => globalResponseNorm({ x: x!, weight: weight!, bias: bias! }, { axis, eps: 1e-3 }),
    twice: false,
  })),
);
