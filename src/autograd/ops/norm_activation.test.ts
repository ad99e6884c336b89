import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import type { ActivationOp } from "../../kernels/kernel_set.js";
import type { Tensor } from "../tensor.js";
import { batchNorm, batchNormEval } from "./batch_norm.js";
import type { NormInputs } from "./fused_norm.js";
import { groupNorm, groupNormPerFeature, groupNormPerPosition } from "./group_norm.js";
import { instanceNorm } from "./instance_norm.js";
import { layerNorm } from "./layer_norm.js";
import { rmsNorm } from "./rms_norm.js";

const eps = 1e-3;
const given = { mean: normal([5]), variance: normal([5]).square().add(0.5) };
type Activation = { op: ActivationOp; alpha: number };

/** Each norm with an input and the shape of its affine: at least three elements to a statistic. */
const norms: readonly [string, Shape, Shape, (inputs: NormInputs, activation: Activation) => Tensor][] = [
  ["batch", [4, 5, 3], [5], (i, activation) => batchNorm(i, { axis: 1, eps, activation }).out],
  ["batch, channels last", [7, 5], [5], (i, activation) => batchNorm(i, { axis: -1, eps, activation }).out],
  [
    "batch, unbiased",
    [4, 5, 3],
    [5],
    (i, activation) => batchNorm(i, { axis: 1, eps, variance: "unbiased", activation }).out,
  ],
  ["evaluation", [3, 5, 4], [5], (i, activation) => batchNormEval(i, given, { axis: 1, eps, activation })],
  ["group", [2, 6, 3], [6], (i, activation) => groupNorm(i, { groups: 2, axis: 1, eps, activation })],
  ["group, channels last", [2, 3, 6], [6], (i, activation) => groupNorm(i, { groups: 2, axis: -1, eps, activation })],
  [
    "group for each feature",
    [2, 4, 3],
    [12],
    (i, activation) => groupNormPerFeature(i, { groups: 2, eps, activation }),
  ],
  [
    "group for each position",
    [2, 6, 3],
    [6],
    (i, activation) => groupNormPerPosition(i, { groups: 2, eps, activation }),
  ],
  ["instance", [2, 3, 5], [3], (i, activation) => instanceNorm(i, { axis: 1, eps, tracked: false, activation }).out],
  ["layer", [3, 2, 5], [2, 5], (i, activation) => layerNorm(i, { normalizedShape: [2, 5], eps, activation })],
  [
    "root mean square",
    [3, 7],
    [7],
    ({ x, weight }, activation) => rmsNorm({ x, weight }, { normalizedShape: [7], eps, activation }),
  ],
];
const ops: ActivationOp[] = ["relu", "silu", "gelu", "leakyRelu"];

const cases = norms.flatMap(([name, shape, affine, apply], i): OpCase[] =>
  ops.flatMap((op) => {
    const activation = { op, alpha: 0.1 };
    const both = { inputs: [normal(shape, 0.5), normal(affine, 1, 0.5), normal(affine)] };
    const full: OpCase = {
      name: `${name}, ${op}`,
      ...(name === "root mean square" ? { inputs: both.inputs.slice(0, 2) } : both),
      apply: (x, weight, bias) => apply({ x: x!, weight: weight!, bias: bias ?? null }, activation),
    };
    // One norm after the other without an affine, or with half of one.
    if (op !== ops[i % 4]) return [full];
    const [x, weight, bias] = both.inputs;
    const without = { ...full, name: `${full.name}, no affine`, inputs: [x!] };
    const noBias = { ...full, name: `${full.name}, no bias`, inputs: [x!, weight!] };
    const noWeight = { ...full, name: `${full.name}, no weight`, inputs: [x!, bias!] };
    return [
      full,
      { ...without, apply: (x) => apply({ x: x!, weight: null, bias: null }, activation) },
      { ...noBias, apply: (x, weight) => apply({ x: x!, weight: weight!, bias: null }, activation) },
      ...(name === "root mean square"
        ? []
        : [
            {
              ...noWeight,
              apply: (x?: Tensor, bias?: Tensor) => apply({ x: x!, weight: null, bias: bias! }, activation),
            },
          ]),
    ];
  }),
);

checkOps("normalization through an activation", cases);
