import type { KernelSet, MatmulPlan } from "../kernel_set.js";
import { only } from "./elementwise.js";
import { runProduct } from "./product.js";
import { type Product, picks } from "./tile.js";

const product: Product = {
  name: "matmul",
  operands: { a: { access: "read" }, b: { access: "read" }, bias: { access: "read" } },
  parameters: { aBatch: "u32", aRow: "u32", aDepth: "u32", bBatch: "u32", bDepth: "u32", bColumn: "u32" },
  code: `
${picks("a")}
${picks("b")}
${picks("bias")}
struct Factor { place: vec4u, ok: vec4<bool> }
alias Left = Factor;
alias Right = Factor;
fn four(i: u32) -> vec4u { return vec4u(i, i + 1u, i + 2u, i + 3u); }
fn left(batch: u32, i: u32) -> Left {
  return Left(batch * P.aBatch + four(i) * P.aRow, four(i) < vec4u(P.m));
}
fn left_four(s: Left, p: u32, live: bool) -> vec4f {
  return a_pick(s.place + p * P.aDepth, s.ok & vec4<bool>(live));
}
fn right(batch: u32, j: u32) -> Right {
  return Right(batch * P.bBatch + four(j) * P.bColumn, four(j) < vec4u(P.n));
}
fn right_four(s: Right, p: u32, live: bool) -> vec4f {
  return b_pick(s.place + p * P.bDepth, s.ok & vec4<bool>(live));
}
fn depth_of(batch: u32) -> u32 { return P.depth; }
fn row_place(batch: u32, i: u32) -> u32 { return (batch * P.m + i) * P.n; }
fn column_places(batch: u32, j: u32) -> vec4u { return select(vec4u(NOWHERE), four(j), four(j) < vec4u(P.n)); }
fn row_extra(batch: u32, i: u32) -> f32 { return 0.0; }
fn column_extra(batch: u32, j: u32) -> vec4f {
  if (!HAS_bias) { return vec4f(0.0); }
  return bias_pick(four(j), four(j) < vec4u(P.n));
}`,
};

export const matmul: Pick<KernelSet, "matmul"> = {
  matmul(a, b, y, given) {
    only("matmul", ["float32"], a, b, y, given.bias);
    const plan = oneMatrix(given);
    const { batch, m, n, k, transposeA, transposeB, bias } = plan;
    const parameters = {
      ...{ aBatch: plan.aBatchStride, aRow: transposeA ? 1 : k, aDepth: transposeA ? m : 1 },
      ...{ bBatch: plan.bBatchStride, bDepth: transposeB ? 1 : n, bColumn: transposeB ? k : 1 },
    };
    runProduct(product, {
      ...{ batch, m, n, depth: k, y, operands: { a, b }, parameters },
      along: { left: !transposeA, right: transposeB },
      bias: bias && { slot: bias, inner: 1, count: n },
    });
  },
};

/** Matrices A that follow one another and meet the same B are one matrix of more rows. */
function oneMatrix(plan: MatmulPlan): MatmulPlan {
  const { batch, m, k, transposeA, aBatchStride, bBatchStride } = plan;
  if (batch < 2 || bBatchStride !== 0 || transposeA || aBatchStride !== m * k) return plan;
  return { ...plan, batch: 1, m: batch * m };
}
