import { type Tensor, where } from "../../../autograd/index.js";
import { activation } from "../../../autograd/ops/activation.js";
import { logSoftmax, softmax } from "../../../autograd/ops/softmax.js";
import { ShapeError } from "../../../base/errors.js";
import { broadcastShapes, normalizeAxis, numberOfElements, sameShape } from "../../../base/shape.js";
import { float, int, text } from "../attributes.js";
import { type Call, oneOf } from "../call.js";
import type { Operator, OperatorTable } from "../operator.js";

type Softmax = (x: Tensor, axis: number) => Tensor;

/** Before opset 13 all axes from `axis` on count as one. */
function flattened(call: Call, f: Softmax): Tensor {
  const x = call.tensor(0);
  const axis = call.int("axis") === x.rank ? x.rank : normalizeAxis(call.int("axis"), x.rank);
  const rows = numberOfElements(x.shape.slice(0, axis));
  return f(x.reshape([rows, numberOfElements(x.shape.slice(axis))]), 1).reshape(x.shape);
}

const softmaxes = (f: Softmax): readonly Operator[] => [
  { since: 1, inputs: [1, 1], attributes: { axis: int(1) }, run: (call) => flattened(call, f) },
  { since: 13, inputs: [1, 1], attributes: { axis: int(-1) }, run: (call) => f(call.tensor(0), call.int("axis")) },
];

const one = (
  since: number,
  attributes: Operator["attributes"] & object,
  f: (x: Tensor, call: Call) => Tensor,
): Operator => ({
  since,
  inputs: [1, 1],
  attributes,
  run: (call) => f(call.tensor(0), call),
});

/** Parts above and below 0, so that an infinite x meets no 0. */
const positive = (x: Tensor): Tensor => activation(x, "relu");
const negative = (x: Tensor): Tensor => x.minimum(0);

function prelu(call: Call): Tensor {
  const [x, slope] = [call.tensor(0), call.tensor(1)];
  if (!sameShape(broadcastShapes(x.shape, slope.shape), x.shape)) {
    throw new ShapeError({ rule: `The slope broadcasts to x of shape [${x.shape}]`, got: `[${slope.shape}]` });
  }
  return positive(x).add(negative(x).mul(slope));
}

const elu = (x: Tensor, alpha: number): Tensor => positive(x).add(negative(x).expm1().mul(alpha));

/** What both GELUs are called in the attribute, and in the engine. */
const gelus = { none: "gelu", tanh: "geluTanh" } as const;

export const activationOperators: OperatorTable = {
  Relu: one(6, {}, positive),
  LeakyRelu: one(6, { alpha: float(0.01) }, (x, call) => activation(x, "leakyRelu", call.float("alpha"))),
  PRelu: { since: 7, inputs: [2, 2], learned: [1], run: prelu },
  Elu: one(6, { alpha: float(1) }, (x, call) => elu(x, call.float("alpha"))),
  Selu: one(6, { alpha: float(1.6732631921768188), gamma: float(1.0507010221481323) }, (x, call) =>
    elu(x, call.float("alpha")).mul(call.float("gamma")),
  ),
  Celu: one(12, { alpha: float(1) }, (x, call) => {
    const alpha = call.float("alpha");
    return positive(x).add(negative(x).div(alpha).expm1().mul(alpha));
  }),
  ThresholdedRelu: one(10, { alpha: float(1) }, (x, call) => where(x.greater(call.float("alpha")), x, 0)),
  HardSigmoid: one(6, { alpha: float(0.2), beta: float(0.5) }, (x, call) =>
    x.mul(call.float("alpha")).add(call.float("beta")).maximum(0).minimum(1),
  ),
  HardSwish: one(14, {}, (x) => x.mul(x.div(6).add(0.5).maximum(0).minimum(1))),
  Softplus: one(1, {}, (x) => x.softplus()),
  Softsign: one(1, {}, (x) => x.div(x.abs().add(1))),
  Sigmoid: one(6, {}, (x) => activation(x, "sigmoid")),
  Tanh: one(6, {}, (x) => activation(x, "tanh")),
  Gelu: one(20, { approximate: text("none") }, (x, call) =>
    activation(x, gelus[oneOf("approximate", call.text("approximate"), ["none", "tanh"])]),
  ),
  Mish: one(18, {}, (x) => x.mul(x.softplus().tanh())),
  Swish: one(24, { alpha: float(1) }, (x, call) => x.mul(x.mul(call.float("alpha")).sigmoid())),
  Shrink: one(9, { bias: float(0), lambd: float(0.5) }, (x, call) => {
    const [bias, edge] = [call.float("bias"), call.float("lambd")];
    return where(x.less(-edge), x.add(bias), where(x.greater(edge), x.sub(bias), 0));
  }),
  Softmax: softmaxes(softmax),
  LogSoftmax: softmaxes(logSoftmax),
};
