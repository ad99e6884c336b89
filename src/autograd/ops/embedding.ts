import type { NumberArray } from "../../base/dtype.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { checkNumbers } from "../check_numbers.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

interface Table {
  readonly shape: Shape;
  readonly paddingIdx: number | null;
}

/**
 * Rows of a table by number: y[i, :] = weight[index[i], :].
 *
 * Shapes: weight [rows, width], index any shape I (int32), y [...I, width].
 * Saves:  index. The gradient to weight adds up dy's rows in the order of i, the same bits on any number of threads.
 */
const lookUp: Op<{ weight: Tensor; index: Tensor }, Table, undefined> = defineOp<
  { weight: Tensor; index: Tensor },
  Table,
  { index: Tensor }
>({
  name: "embedding",
  forward({ weight, index }) {
    const width = weight.shape[1]!;
    const out = Tensor.empty([...index.shape, width], weight.dtype);
    kernels.embedding(weight.storage, index.storage, out.storage, width);
    return { out, saved: { index } };
  },
  backward(dy, { index }, table) {
    const real = () => index.notEqual(table.paddingIdx!).reshape([...index.shape, 1]);
    return { weight: () => addUp({ dy: table.paddingIdx === null ? dy : dy.mul(real()), index }, table) };
  },
  twiceDifferentiable: true,
});

/** The transpose of looking up, a table with dy's rows added where they came from. Saves index. */
const addUp: Op<{ dy: Tensor; index: Tensor }, Table, undefined> = defineOp<
  { dy: Tensor; index: Tensor },
  Table,
  { index: Tensor }
>({
  name: "embedding_grad",
  forward({ dy, index }, { shape }) {
    const out = Tensor.empty(shape, dy.dtype);
    kernels.fill(out.storage, 0);
    kernels.embeddingGrad(index.storage, dy.storage, out.storage, shape[1]!);
    return { out, saved: { index } };
  },
  backward: (g, { index }, { shape }) => ({ dy: () => lookUp({ weight: g, index }, { shape, paddingIdx: null }) }),
  twiceDifferentiable: true,
});

/**
 * Rows of `weight` by number; the row `paddingIdx` gets no gradient.
 * Throws DTypeError unless index is int32, ShapeError if weight is no matrix or a number is outside [0, rows).
 */
export function embedding(index: Tensor, weight: Tensor, paddingIdx: number | null = null): Tensor {
  if (weight.rank !== 2) {
    throw new ShapeError({ rule: "embedding looks up rows of a matrix [rows, width]", got: formatShape(weight.shape) });
  }
  if (index.dtype !== "int32") {
    throw new DTypeError({
      rule: "embedding takes row numbers of type int32",
      got: index.dtype,
      fix: 'Make them with tensor(numbers, { dtype: "int32" }) or cast("int32")',
    });
  }
  const rows = weight.shape[0]!;
  checkNumbers(index, (numbers) => checkRows(numbers, rows, index.shape));
  return lookUp({ weight, index }, { shape: weight.shape, paddingIdx });
}

function checkRows(numbers: NumberArray, rows: number, shape: Shape): void {
  for (let i = 0; i < numbers.length; i++) {
    if (numbers[i]! >= 0 && numbers[i]! < rows) continue;
    throw new ShapeError({
      rule: `embedding with a table of ${rows} rows takes numbers from 0 to ${rows - 1}`,
      got: `${numbers[i]} as element ${i} of the input of shape ${formatShape(shape)}`,
      fix: "Raise numEmbeddings, or map unknown numbers to a row of their own",
    });
  }
}
