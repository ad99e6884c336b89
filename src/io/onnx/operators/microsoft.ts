import type { Tensor } from "../../../autograd/index.js";
import { activation } from "../../../autograd/ops/activation.js";
import { layerNorm } from "../../../autograd/ops/layer_norm.js";
import { rmsNorm } from "../../../autograd/ops/rms_norm.js";
import { checkNonNegative } from "../../../base/options.js";
import { float, int } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { product } from "./matmul.js";
import { withAffine } from "./norm.js";

/** x + skip (+ bias), normalized over its last axis; the sum itself is the fourth result. */
function skipped(call: Call, bias: Tensor | null, norm: (sum: Tensor) => Tensor): (Tensor | null)[] {
  const plain = call.tensor(0).add(call.tensor(1));
  const sum = bias ? plain.add(bias) : plain;
  const y = norm(sum);
  if (call.outputs < 2) return [y];
  const eps = call.float("epsilon");
  const deviation = sum.variance(-1, { correction: 0, keepDim: true }).add(eps).rsqrt();
  return [y, sum.mean(-1, true), deviation, sum];
}

const affine = { affine: true } as const;
const epsilon = { epsilon: float(1e-12) };
const epsilonOf = (call: Call): number => checkNonNegative("epsilon", call.float("epsilon"));

/** Operators of the domain "com.microsoft", which that runtime's optimizer writes into files. */
export const microsoftOperators: OperatorTable = {
  SkipLayerNormalization: {
    since: 1,
    inputs: [3, 5],
    outputs: 4,
    attributes: epsilon,
    learned: [2, 3, 4],
    ...affine,
    run: (call) =>
      skipped(call, call.optionalTensor(4), (sum) => {
        const shape = sum.shape.slice(-1);
        return withAffine(sum, call.tensor(2), call.optionalTensor(3), shape, (weight, bias) =>
          layerNorm({ x: sum, weight, bias }, { normalizedShape: shape, eps: epsilonOf(call) }),
        );
      }),
  },
  SkipSimplifiedLayerNormalization: {
    since: 1,
    inputs: [3, 4],
    outputs: 4,
    attributes: epsilon,
    learned: [2, 3],
    ...affine,
    run: (call) =>
      skipped(call, call.optionalTensor(3), (sum) => {
        const shape = sum.shape.slice(-1);
        return withAffine(sum, call.tensor(2), null, shape, (weight) =>
          rmsNorm({ x: sum, weight }, { normalizedShape: shape, eps: epsilonOf(call) }),
        );
      }),
  },
  Gelu: { since: 1, inputs: [1, 1], run: (call) => activation(call.tensor(0), "gelu") },
  BiasGelu: {
    since: 1,
    inputs: [2, 2],
    learned: [1],
    run: (call) => activation(call.tensor(0).add(call.tensor(1)), "gelu"),
  },
  FastGelu: {
    since: 1,
    inputs: [1, 2],
    learned: [1],
    run(call) {
      const [x, bias] = [call.tensor(0), call.optionalTensor(1)];
      return activation(bias ? x.add(bias) : x, "geluTanh");
    },
  },
  QuickGelu: {
    since: 1,
    inputs: [1, 1],
    attributes: { alpha: float(1.702) },
    run: (call) => call.tensor(0).mul(call.tensor(0).mul(call.float("alpha")).sigmoid()),
  },
  FusedMatMul: {
    since: 1,
    inputs: [2, 2],
    attributes: { alpha: float(1), transA: int(0), transB: int(0), transBatchA: int(0), transBatchB: int(0) },
    learned: [0, 1],
    lacks: (attributes) => (attributes.get("transBatchA") || attributes.get("transBatchB") ? "transBatch" : null),
    run(call) {
      const y = product(call.tensor(0), call.tensor(1), {
        transposeA: call.flag("transA"),
        transposeB: call.flag("transB"),
      });
      return call.float("alpha") === 1 ? y : y.mul(call.float("alpha"));
    },
  },
};
