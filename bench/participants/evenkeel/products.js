import { F, grad, noGrad, scope, tensor } from "../../../dist/index.js";
import { numbersOf } from "./numbers.js";

const tensors = (inputs, place) =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { data, shape }]) => [name, tensor(data, { shape, ...place })]),
  );

const release = (all) => () => {
  for (const t of Object.values(all)) t.dispose();
};

export function matmul({ transposeA, transposeB }, inputs, place) {
  const all = tensors(inputs, place);
  const product = () => noGrad(() => all.a.matmul(all.b, { transposeA, transposeB }));
  return {
    run: { forward: () => scope(() => void product()) },
    results: () => numbersOf(() => ({ y: product() })),
    release: release(all),
  };
}

export function conv({ padding, groups }, inputs, place) {
  const all = tensors(inputs, place);
  const wanted = [all.x, all.weight, all.bias];
  for (const t of wanted) t.requiresGrad = true;
  const forward = () => F.conv2d(all.x, all.weight, { bias: all.bias, padding, groups });
  all.y = forward();
  const backward = () => grad(all.y, wanted, { gradOutput: all.dy, retainGraph: true });
  return {
    run: { forward: () => scope(() => void forward()), backward: () => scope(() => void backward()) },
    results: () =>
      numbersOf(() => {
        const [dx, dweight, dbias] = backward();
        return { y: all.y.detach(), dx, dweight, dbias };
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
