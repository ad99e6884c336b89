import { type DType, mixable, promote } from "../../base/dtype.js";
import { ShapeError } from "../../base/errors.js";
import { broadcastShapes, formatShape, numberOfElements, type Shape, sameShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

interface Product extends Transposes {
  /** The type of y, whose operands may be float16 beside float32. */
  readonly dtype: DType;
}

/**
 * y = op(a) op(b), op being the transpose of the last two axes where asked; transposed operands are read in place.
 * Shapes: a [..., m, k], b [..., k, n] after transposition; leading axes are equal or missing on one side.
 * Saves a and b.
 */
const matmulOp: Op<{ a: Tensor; b: Tensor }, Product, undefined> = defineOp<
  { a: Tensor; b: Tensor },
  Product,
  { a: Tensor; b: Tensor }
>({
  name: "matmul",
  forward({ a, b }, { transposeA, transposeB, dtype }) {
    const [m, k] = matrix(a.shape, transposeA);
    const n = matrix(b.shape, transposeB)[1];
    const batch = a.rank > 2 ? a.shape.slice(0, -2) : b.shape.slice(0, -2);
    const out = Tensor.empty([...batch, m, n], dtype);
    kernels.matmul(a.storage, b.storage, out.storage, {
      batch: numberOfElements(batch),
      ...{ m, n, k, transposeA, transposeB },
      aBatchStride: a.rank > 2 ? m * k : 0,
      bBatchStride: b.rank > 2 ? k * n : 0,
      bias: null,
    });
    return { out, saved: { a, b } };
  },
  backward(dy, { a, b }, { transposeA, transposeB }) {
    // d op(a) = dy op(b)^T and d op(b) = op(a)^T dy; a transposed operand gets the transpose of that.
    return {
      a: () =>
        (transposeA
          ? product(b, dy, { transposeA: transposeB, transposeB: true }, a.dtype)
          : product(dy, b, { transposeA: false, transposeB: !transposeB }, a.dtype)
        ).sumTo(a.shape),
      b: () =>
        (transposeB
          ? product(dy, a, { transposeA: true, transposeB: transposeA }, b.dtype)
          : product(a, dy, { transposeA: !transposeA, transposeB: false }, b.dtype)
        ).sumTo(b.shape),
    };
  },
  twiceDifferentiable: true,
  separable: true,
});

const product = (a: Tensor, b: Tensor, transposes: Transposes, dtype: DType): Tensor =>
  matmulOp({ a, b }, { ...transposes, dtype });

function matrix(shape: Shape, transposed: boolean): [number, number] {
  const [rows, columns] = [shape[shape.length - 2]!, shape[shape.length - 1]!];
  return transposed ? [columns, rows] : [rows, columns];
}

/**
 * Matrix product as NumPy's: vectors count as a row on the left and a column on the right, leading axes broadcast.
 * `transposeA` and `transposeB` exchange the last two axes first, without a copy.
 * Throws ShapeError when the inner lengths differ.
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<Transposes> = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  if (a.rank === 0 || b.rank === 0) {
    throw new ShapeError({
      rule: "matmul takes tensors of rank 1 or more",
      got: `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    });
  }
  if (a.rank === 1) {
    const y = matmul(a.reshape([1, a.size]), b, { transposeB });
    return y.reshape(b.rank === 1 ? [] : [...y.shape.slice(0, -2), y.shape[y.rank - 1]!]);
  }
  if (b.rank === 1) {
    const y = matmul(a, b.reshape([b.size, 1]), { transposeA });
    return y.reshape(y.shape.slice(0, -1));
  }
  const inner = matrix(a.shape, transposeA)[1];
  if (inner !== matrix(b.shape, transposeB)[0]) {
    const t = [transposeA ? " (first transposed)" : "", transposeB ? " (second transposed)" : ""].join("");
    throw new ShapeError({
      rule: "matmul needs [..., m, k] and [..., k, n] with one k",
      got: `${formatShape(a.shape)} and ${formatShape(b.shape)}${t}`,
    });
  }
  // Two types meet as in any other arithmetic.
  const dtype = promote(a.dtype, b.dtype);
  let [left, right] = [a, b].map((t) => (mixable(t.dtype, dtype) ? t : t.cast(dtype))) as [Tensor, Tensor];
  const [aLead, bLead] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  if (aLead.length > 0 && bLead.length > 0 && !sameShape(aLead, bLead)) {
    const lead = broadcastShapes(aLead, bLead);
    left = left.expand([...lead, ...a.shape.slice(-2)]);
    right = right.expand([...lead, ...b.shape.slice(-2)]);
  }
  return product(left, right, { transposeA, transposeB }, dtype);
}

/**
 * y = x weight^T + bias, the bias added by the product's last store.
 * Shapes: x [..., in], weight [out, in], bias [out] or null, y [..., out]. Saves x and weight. y and dx have x's type, the
 * other gradients that of weight and bias.
 */
export const linear = defineOp<
  { x: Tensor; weight: Tensor; bias: Tensor | null },
  Record<never, never>,
  { x: Tensor; weight: Tensor }
>({
  name: "linear",
  forward({ x, weight, bias }) {
    const [n, k] = [weight.shape[0]!, weight.shape[1]!];
    const lead = x.shape.slice(0, -1);
    const out = Tensor.empty([...lead, n], x.dtype);
    kernels.matmul(x.storage, weight.storage, out.storage, {
      ...{
        batch: 1,
        m: numberOfElements(lead),
        n,
        k,
        transposeA: false,
        transposeB: true,
        aBatchStride: 0,
        bBatchStride: 0,
      },
      bias: bias?.storage ?? null,
    });
    return { out, saved: { x, weight } };
  },
  backward(dy, { x, weight }) {
    const rows = dy.reshape([-1, weight.shape[0]!]);
    const inputs = x.reshape([-1, weight.shape[1]!]);
    return {
      x: () => product(rows, weight, { transposeA: false, transposeB: false }, x.dtype).reshape(x.shape),
      weight: () => product(rows, inputs, { transposeA: true, transposeB: false }, weight.dtype),
      bias: () => rows.sum(0, { dtype: weight.dtype }),
    };
  },
  twiceDifferentiable: true,
  separable: true,
});
