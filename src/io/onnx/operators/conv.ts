import type { Tensor } from "../../../autograd/index.js";
import { conv } from "../../../autograd/ops/conv.js";
import { convTranspose } from "../../../autograd/ops/conv_transpose.js";
import { ShapeError } from "../../../base/errors.js";
import { checkPositiveInteger } from "../../../base/options.js";
import { formatShape } from "../../../base/shape.js";
import { int, ints } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { checkRoom } from "../value.js";
import {
  autoPadOf,
  dilations,
  padSpatial,
  pairs,
  perAxis,
  reachOf,
  shared,
  spatialAxes,
  symmetric,
  windowAttributes,
  windowsOf,
} from "./windows.js";

function convolution(call: Call): Tensor {
  const x = call.tensor(0);
  const weight = call.tensor(1).cast(x.dtype);
  const bias = call.optionalTensor(2)?.cast(x.dtype) ?? null;
  spatialAxes(x);
  if (weight.rank !== x.rank) throw otherRank(x, weight);
  const { stride, dilation, pads } = windowsOf(call, x, weight.shape.slice(2));
  const groups = checkPositiveInteger("group", call.int("group"));
  const even = symmetric(pads);
  const padding = even ? pads.map(([before]) => before) : 0;
  return conv(even ? x : padSpatial(x, pads), weight, bias, { stride, dilation, padding, groups });
}

const otherRank = (x: Tensor, weight: Tensor): ShapeError =>
  new ShapeError({
    rule: `The weight has as many axes as x ${formatShape(x.shape)}`,
    got: formatShape(weight.shape),
  });

/** What is cut off the full result before and after along each axis (less than 0: zeros that are added). */
function cuts(call: Call, x: Tensor, full: readonly number[], stride: readonly number[]): [number, number][] {
  const axes = full.length;
  const extra = perAxis(call, "output_padding", axes, 0, 0);
  const auto = autoPadOf(call);
  const asked = call.ints("output_shape");
  if (asked !== null || auto === "SAME_UPPER" || auto === "SAME_LOWER") {
    const shape = asked ? perAxis(call, "output_shape", axes, 1, 1) : x.shape.slice(2).map((n, i) => n * stride[i]!);
    return full.map((n, i) => {
      const total = Math.max(0, n + extra[i]! - shape[i]!);
      const [before] = shared(total, auto === "SAME_UPPER");
      return [before, n - shape[i]! - before];
    });
  }
  const pads =
    auto === "VALID" ? full.map((): [number, number] => [0, 0]) : pairs(perAxis(call, "pads", 2 * axes, 0, 0));
  return pads.map(([before, after], i) => [before, after - extra[i]!]);
}

function transposedConvolution(call: Call): Tensor {
  const x = call.tensor(0);
  const weight = call.tensor(1).cast(x.dtype);
  const bias = call.optionalTensor(2)?.cast(x.dtype) ?? null;
  const axes = spatialAxes(x);
  if (weight.rank !== x.rank) throw otherRank(x, weight);
  const stride = perAxis(call, "strides", axes, 1, 1);
  const dilation = perAxis(call, "dilations", axes, 1, 1);
  const groups = checkPositiveInteger("group", call.int("group"));
  const reach = reachOf({ kernel: weight.shape.slice(2), dilation });
  const full = x.shape.slice(2).map((n, i) => (n - 1) * stride[i]! + reach[i]!);
  const ends = cuts(call, x, full, stride);
  checkRoom([x.shape[0]!, groups, weight.shape[1]!, ...full.map((n, i) => Math.max(n, n - ends[i]![1]))]);
  if (symmetric(ends) && ends.every(([before]) => before >= 0)) {
    return convTranspose(x, weight, bias, { stride, dilation, groups, padding: ends.map(([before]) => before) });
  }
  let y = convTranspose(x, weight, null, { stride, dilation, groups });
  if (ends.some(([before, after], i) => before < 0 || before + after >= full[i]!)) {
    const rule = "A transposed convolution's result has at least length 1 along each axis";
    throw new ShapeError({ rule, got: `${formatShape(full)} with ${JSON.stringify(ends)} cut off` });
  }
  y = padSpatial(
    y,
    ends.map(([, after]) => [0, Math.max(0, -after)]),
  );
  for (const [i, [before, after]] of ends.entries()) y = y.narrow(i + 2, before, full[i]! - before - after);
  return bias ? y.add(bias.reshape([bias.size, ...full.map(() => 1)])) : y;
}

const shape = { ...windowAttributes, dilations, group: int(1) };

export const convOperators: OperatorTable = {
  Conv: { since: 1, inputs: [2, 3], attributes: shape, learned: [1, 2], run: convolution },
  ConvTranspose: {
    since: 1,
    inputs: [2, 3],
    attributes: { ...shape, output_padding: ints(), output_shape: ints() },
    learned: [1, 2],
    run: transposedConvolution,
  },
};
