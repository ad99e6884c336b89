import { matmul, type Tensor } from "../../../autograd/index.js";
import { ShapeError, UnsupportedKernel } from "../../../base/errors.js";
import { broadcastShapes, formatShape, numberOfElements, sameShape } from "../../../base/shape.js";
import { float, int, needed } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { checkRoom } from "../value.js";

/** A matrix product whose result is checked first: two vectors make a matrix of their product's size. */
export function product(a: Tensor, b: Tensor, options: { transposeA?: boolean; transposeB?: boolean } = {}): Tensor {
  if (a.rank > 1 && b.rank > 1) {
    const rows = a.shape[options.transposeA ? a.rank - 1 : a.rank - 2]!;
    const columns = b.shape[options.transposeB ? b.rank - 2 : b.rank - 1]!;
    checkRoom([...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), rows, columns]);
  }
  return matmul(a, b.cast(a.dtype), options);
}

/** alpha op(A) op(B) + beta C */
function gemm(call: Call): Tensor {
  const [a, b] = [call.tensor(0), call.tensor(1)];
  if (a.rank !== 2 || b.rank !== 2) {
    throw new ShapeError({
      rule: "Gemm multiplies two matrices",
      got: `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    });
  }
  const [alpha, beta] = [call.float("alpha"), call.float("beta")];
  const plain = product(a, b, { transposeA: call.flag("transA"), transposeB: call.flag("transB") });
  const y = alpha === 1 ? plain : plain.mul(alpha);
  const c = call.optionalTensor(2);
  if (!c || beta === 0) return y;
  if (!sameShape(broadcastShapes(c.shape, y.shape), y.shape)) {
    throw new ShapeError({ rule: `C broadcasts to ${formatShape(y.shape)}`, got: formatShape(c.shape) });
  }
  return y.add(beta === 1 ? c : c.mul(beta));
}

interface Term {
  readonly letters: readonly string[];
  readonly x: Tensor;
}

function unreadable(equation: string): UnsupportedKernel {
  const rule =
    "Einsum is computed for one or two operands whose letters each come once in an operand, without an ellipsis";
  return new UnsupportedKernel({ rule, got: JSON.stringify(equation) });
}

/** Axes of a term in the order of `letters`, with length 1 where it has none. */
function arranged({ letters, x }: Term, order: readonly string[]): Tensor {
  const present = order.filter((l) => letters.includes(l));
  const moved = x.permute(present.map((l) => letters.indexOf(l)));
  let next = 0;
  return moved.reshape(order.map((l) => (letters.includes(l) ? moved.shape[next++]! : 1)));
}

/** Letters of one operand that neither the other nor the result has are summed over at once. */
function summed({ letters, x }: Term, needed: (letter: string) => boolean): Term {
  const gone = letters.filter((l) => !needed(l));
  if (gone.length === 0) return { letters, x };
  return { letters: letters.filter(needed), x: x.sum(gone.map((l) => letters.indexOf(l))) };
}

/** A sum of products of two operands as a batched matrix product: letters of both and the result are the batch. */
function contracted(a: Term, b: Term, result: readonly string[]): Tensor {
  const [left, right] = [
    summed(a, (l) => b.letters.includes(l) || result.includes(l)),
    summed(b, (l) => a.letters.includes(l) || result.includes(l)),
  ];
  const shared = left.letters.filter((l) => right.letters.includes(l));
  const batch = shared.filter((l) => result.includes(l));
  const inner = shared.filter((l) => !result.includes(l));
  const rows = left.letters.filter((l) => !shared.includes(l));
  const columns = right.letters.filter((l) => !shared.includes(l));
  const lengths = new Map<string, number>();
  for (const { letters, x } of [left, right]) {
    for (const [i, l] of letters.entries()) {
      const [before, length] = [lengths.get(l) ?? 1, x.shape[i]!];
      if (before !== length && before !== 1 && length !== 1) {
        throw new ShapeError({ rule: `The letter ${l} stands for one length`, got: `${before} and ${length}` });
      }
      lengths.set(l, Math.max(before, length));
    }
  }
  const size = (letters: readonly string[]): number => numberOfElements(letters.map((l) => lengths.get(l)!));
  const full = (term: Term, order: readonly string[]): Tensor => {
    const x = arranged(term, order);
    return x.expand(order.map((l) => lengths.get(l)!));
  };
  const x = full(left, [...batch, ...rows, ...inner]).reshape([size(batch), size(rows), size(inner)]);
  const y = full(right, [...batch, ...inner, ...columns]).reshape([size(batch), size(inner), size(columns)]);
  const order = [...batch, ...rows, ...columns];
  const made = product(x, y).reshape(order.map((l) => lengths.get(l)!));
  return made.permute(result.map((l) => order.indexOf(l)));
}

function einsum(call: Call): Tensor {
  const equation = call.text("equation").replaceAll(" ", "");
  const [left, stated] = equation.split("->") as [string, string | undefined];
  const operands = left.split(",").map((t) => [...t]);
  if (operands.length !== call.inputs.length || operands.length > 2) throw unreadable(equation);
  const count = (l: string): number => operands.flat().filter((m) => m === l).length;
  const result =
    stated === undefined ? [...new Set(operands.flat())].filter((l) => count(l) === 1).sort() : [...stated];
  const lists = [...operands, result];
  const sound = lists.every((l) => new Set(l).size === l.length && l.every((c) => /[a-zA-Z]/.test(c)));
  if (!sound || result.some((l) => count(l) === 0)) throw unreadable(equation);
  const terms = operands.map((letters, i): Term => {
    const x = call.tensor(i);
    if (x.rank === letters.length) return { letters, x };
    throw new ShapeError({ rule: `Operand ${i} has the axes ${letters.join("")}`, got: formatShape(x.shape) });
  });
  if (terms.length === 2) return contracted(terms[0]!, terms[1]!, result);
  const alone = summed(terms[0]!, (l) => result.includes(l));
  return alone.x.permute(result.map((l) => alone.letters.indexOf(l)));
}

export const matmulOperators: OperatorTable = {
  Gemm: {
    since: 7,
    inputs: [2, 3],
    attributes: { alpha: float(1), beta: float(1), transA: int(0), transB: int(0) },
    learned: [0, 1, 2],
    run: gemm,
  },
  MatMul: { since: 1, inputs: [2, 2], learned: [0, 1], run: (call) => product(call.tensor(0), call.tensor(1)) },
  Einsum: {
    since: 12,
    inputs: [1, Number.POSITIVE_INFINITY],
    attributes: { equation: needed("text") },
    learned: [0, 1],
    run: einsum,
  },
};
