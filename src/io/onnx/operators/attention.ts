import { concat, type Tensor, where } from "../../../autograd/index.js";
import { softmax } from "../../../autograd/ops/softmax.js";
import { ShapeError, UnsupportedKernel } from "../../../base/errors.js";
import { formatShape } from "../../../base/shape.js";
import { float, int, optional } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { int32Tensor, isFloat, truth } from "../value.js";
import { product } from "./matmul.js";

/** [batch, heads, length, width], from [batch, length, heads * width] where the heads lie side by side. */
function byHeads(x: Tensor, heads: number, name: string): Tensor {
  if (x.rank === 4) return x;
  const [batch, length, width] = x.shape as [number, number, number];
  if (x.rank === 3 && heads >= 1 && width % heads === 0) {
    return x.reshape([batch, length, heads, width / heads]).permute([0, 2, 1, 3]);
  }
  throw new ShapeError({
    rule: `${name} is [batch, heads, length, width], or has three axes and its ${heads} heads in the last`,
    got: formatShape(x.shape),
  });
}

/** Heads of keys and values that several heads of queries share, once for each of those. */
function repeated(x: Tensor, heads: number): Tensor {
  const [batch, own, length, width] = x.shape as [number, number, number, number];
  if (own === heads) return x;
  const wide = x.reshape([batch, own, 1, length, width]).expand([batch, own, heads / own, length, width]);
  return wide.reshape([batch, heads, length, width]);
}

/** Scores with what the mask leaves out at minus infinity; a mask of floats is added. */
function masked(scores: Tensor, call: Call): Tensor {
  const [rows, columns] = scores.shape.slice(-2) as [number, number];
  let y = scores;
  if (call.has(3)) {
    const mask = call.value(3);
    y = isFloat(mask) ? y.add(mask) : where(int32Tensor(mask), y, Number.NEGATIVE_INFINITY);
  }
  if (!call.flag("is_causal")) return y;
  const earlier = truth([rows, columns], (i) => i % columns <= Math.floor(i / columns));
  return where(int32Tensor(earlier), y, Number.NEGATIVE_INFINITY);
}

/** softmax(scale Q K^T + mask) V, keys and values behind those of the past. */
function attention(call: Call): Tensor[] {
  const q = byHeads(call.tensor(0), call.int("q_num_heads"), "Q");
  const joined = (i: number, past: number, name: string): Tensor => {
    const now = byHeads(call.tensor(i), call.int("kv_num_heads"), name);
    return call.has(past) ? concat([call.tensor(past), now], 2) : now;
  };
  const [k, v] = [joined(1, 4, "K"), joined(2, 5, "V")];
  const [heads, own, width] = [q.shape[1]!, k.shape[1]!, q.shape[3]!];
  if (own < 1 || heads % own !== 0 || v.shape[1] !== own) {
    throw new ShapeError({
      rule: "Heads of keys and values are as many, and divide those of queries",
      got: `${heads}, ${own} and ${v.shape[1]}`,
    });
  }
  if (call.has(4) && call.flag("is_causal")) {
    throw new UnsupportedKernel({ rule: "Causal attention is computed without a past", got: "past_key" });
  }
  const scale = call.attribute<number>("scale") ?? 1 / Math.sqrt(width);
  const scores = product(q, repeated(k, heads), { transposeB: true }).mul(scale);
  const y = product(softmax(masked(scores, call)), repeated(v, heads));
  const [batch, length, depth] = [y.shape[0]!, y.shape[2]!, y.shape[3]!];
  const flat = call.tensor(0).rank === 3 ? y.permute([0, 2, 1, 3]).reshape([batch, length, heads * depth]) : y;
  return [flat, k, v];
}

export const attentionOperators: OperatorTable = {
  Attention: {
    since: 23,
    inputs: [3, 6],
    outputs: 3,
    attributes: {
      is_causal: int(0),
      ...{ q_num_heads: int(0), kv_num_heads: int(0), scale: optional("float"), softcap: float(0) },
      // What the fourth output, which is not computed, holds; and a precision, which is float32 or more here.
      ...{ qk_matmul_output_mode: int(0), softmax_precision: optional("int") },
    },
    // Whether the bound comes before the mask or after it differs between versions of the operator.
    lacks: (attributes) => (attributes.get("softcap") === 0 ? null : "softcap"),
    run: attention,
  },
};
