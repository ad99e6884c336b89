import { F, grad, noGrad, scope, tensor } from "../../../dist/index.js";

const tensors = (inputs, dtype) =>
  Object.fromEntries(Object.entries(inputs).map(([name, { data, shape }]) => [name, tensor(data, { shape, dtype })]));

const release = (all) => () => {
  for (const t of Object.values(all)) t.dispose();
};

export function matmul({ transposeA, transposeB }, inputs, dtype) {
  const all = tensors(inputs, dtype);
  const product = () => noGrad(() => all.a.matmul(all.b, { transposeA, transposeB }));
  return {
    run: { forward: () => scope(() => void product()) },
    results: () => scope(() => ({ y: product().dataSync() })),
    release: release(all),
  };
}

export function conv({ padding, groups }, inputs, dtype) {
  const all = tensors(inputs, dtype);
  const wanted = [all.x, all.weight, all.bias];
  for (const t of wanted) t.requiresGrad = true;
  const forward = () => F.conv2d(all.x, all.weight, { bias: all.bias, padding, groups });
  all.y = forward();
  const backward = () => grad(all.y, wanted, { gradOutput: all.dy, retainGraph: true });
  return {
    run: { forward: () => scope(() => void forward()), backward: () => scope(() => void backward()) },
    results: () =>
      scope(() => {
        const [dx, dweight, dbias] = backward().map((t) => t.dataSync());
        return { y: all.y.dataSync(), dx, dweight, dbias };
      }),
    release: release(all),
  };
}

/** The memory roofline: the cheapest op that reads and writes every element once. */
export function copy({ length }) {
  const x = tensor(new Float32Array(length).fill(1), { shape: [length] });
  return {
    run: { forward: () => scope(() => void noGrad(() => x.neg())) },
    results: () => ({}),
    release: () => x.dispose(),
  };
}
