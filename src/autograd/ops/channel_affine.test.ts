import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { channelAffine } from "./channel_affine.js";

checkOps("channel affine", [
  {
    name: "channels first",
    inputs: [normal([3, 5, 7]), normal([5]), normal([5])],
    apply: (x, weight, bias) => channelAffine({ x: x!, weight: weight!, bias: bias! }),
  },
  {
    name: "channels last, no bias",
    inputs: [normal([3, 7, 5]), normal([5])],
    apply: (x, weight) => channelAffine({ x: x!, weight: weight!, bias: null }, -1),
  },
  {
    name: "bias alone, many channels",
    inputs: [normal([2, 33, 2]), normal([33])],
    apply: (x, bias) => channelAffine({ x: x!, weight: null, bias: bias! }),
  },
]);
