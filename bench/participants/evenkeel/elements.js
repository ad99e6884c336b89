import { F, grad, noGrad, optim, scope, tensor } from "../../../dist/index.js";
import { numbersOf } from "./numbers.js";

/** What is computed, by name, of the operands of a case. */
const ops = {
  add: ({ x, other }) => x.add(other),
  gelu: ({ x }) => F.gelu(x),
  softmax: ({ x }) => F.softmax(x),
  "cross-entropy": ({ x, target }) => F.crossEntropy(x, target),
};

export function elements({ op, modes }, inputs, { dtype = "float32", device = "cpu" } = {}) {
  const operands = Object.fromEntries(
    Object.entries(inputs).map(([name, { data, shape }]) => [
      name,
      tensor(data, { shape, dtype: name === "target" ? "int32" : dtype, device }),
    ]),
  );
  const release = () => {
    for (const t of Object.values(operands)) t.dispose();
  };
  if (op === "adamw") return adamw(operands, release);
  const { x, dy = null } = operands;
  x.requiresGrad = true;
  const y = ops[op](operands);
  const backward = () => grad(y, [x], { gradOutput: dy, retainGraph: true });
  return {
    run: {
      forward: () => scope(() => void noGrad(() => ops[op](operands))),
      backward: () => scope(() => void backward()),
    },
    results: () => numbersOf(() => ({ y: y.detach(), ...(modes.includes("backward") ? { dx: backward()[0] } : {}) })),
    release() {
      y.dispose();
      release();
    },
  };
}

/** One update of one large parameter. */
function adamw({ x, dy }, release) {
  x.requiresGrad = true;
  x.grad = dy;
  const optimizer = new optim.AdamW([x], { lr: 1e-3 });
  return {
    run: { update: () => scope(() => optimizer.step()) },
    results() {
      scope(() => optimizer.step());
      return numbersOf(() => ({ x: x.detach() }));
    },
    release() {
      optimizer.dispose();
      release();
    },
  };
}
