/** Ops on rows of numbers, and an optimizer's update of one large parameter: `moves` counts operands read and written. */
const ops = {
  add: { forward: 3 },
  gelu: { forward: 2, backward: 3 },
  softmax: { forward: 2, backward: 3 },
  // Of forward a number a row is left; of backward, dx in place of the logits.
  "cross-entropy": { forward: 1, backward: 2 },
  // Parameter, gradient and two moments; all but the gradient are written too.
  adamw: { update: 7 },
};

export const elementsOf = (size, shape) =>
  Object.entries(ops).map(([op, moves]) => {
    const bytes = 4 * shape[0] * shape[1];
    const traffic = Object.fromEntries(Object.entries(moves).map(([mode, n]) => [mode, n * bytes]));
    return { kind: "elements", id: `${op} ${size}`, op, shape, bytes, traffic, modes: Object.keys(moves) };
  });

export function elementInputs({ op, shape }, random) {
  const x = random.normal(shape, 0);
  if (op === "add") return { x, other: random.normal(shape, 0) };
  if (op !== "cross-entropy") return { x, dy: random.normal(shape, 0) };
  const target = random.uniform(shape.slice(0, 1), 0, shape[1]);
  for (const [i, v] of target.data.entries()) target.data[i] = Math.floor(v);
  return { x, target };
}
