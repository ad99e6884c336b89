import { checkOps, normal, type OpCase, positive } from "../../../tests/conformance/op_harness.js";
import { dynamicActivation } from "./dynamic_activation.js";

const both: OpCase[] = (["tanh", "erf"] as const).flatMap((op) => [
  {
    name: `${op}, all parameters`,
    inputs: [normal([3, 2, 5]), positive([1]), normal([1]), normal([2, 5]), normal([2, 5])],
    apply: (x, alpha, shift, weight, bias) =>
      dynamicActivation(
        { x: x!, alpha: alpha!, shift: shift!, weight: weight!, bias: bias! },
        { op, normalizedShape: [2, 5] },
      ),
  },
  {
    name: `${op}, alpha alone`,
    inputs: [normal([4, 7]), positive([1])],
    apply: (x, alpha) =>
      dynamicActivation({ x: x!, alpha: alpha!, shift: null, weight: null, bias: null }, { op, normalizedShape: [7] }),
  },
]);

checkOps("dynamic_activation", both);
