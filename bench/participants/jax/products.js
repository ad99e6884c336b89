import { arrays, finished, numbers } from "./arrays.js";

export function matmul(jax, { transposeA, transposeB }, inputs) {
  const np = jax.numpy;
  const all = arrays(jax, inputs);
  const product = jax.jit((a, b) =>
    np.matmul(transposeA ? np.matrixTranspose(a) : a, transposeB ? np.matrixTranspose(b) : b),
  );
  const forward = () => product(all.a.ref, all.b.ref);
  return {
    run: { forward: () => finished(forward()) },
    results: () => numbers({ y: forward() }),
    release() {
      all.a.dispose();
      all.b.dispose();
    },
  };
}

export function conv(jax, { padding, groups }, inputs) {
  const all = arrays(jax, inputs);
  const pads = [
    [padding, padding],
    [padding, padding],
  ];
  const form = (x, w, b) =>
    jax.lax.convGeneralDilated(x, w, [1, 1], pads, { featureGroupCount: groups }).add(b.reshape([1, -1, 1, 1]));
  const operands = () => [all.x.ref, all.weight.ref, all.bias.ref];
  const forward = jax.jit(form);
  const gradients = jax.jit(jax.grad((x, w, b, dy) => form(x, w, b).mul(dy).sum(), { argnums: [0, 1, 2] }));
  return {
    includesForward: ["backward"],
    run: {
      forward: () => finished(forward(...operands())),
      backward: () => finished(gradients(...operands(), all.dy.ref)),
    },
    async results() {
      const [dx, dweight, dbias] = gradients(...operands(), all.dy.ref);
      return numbers({ y: forward(...operands()), dx, dweight, dbias });
    },
    release() {
      for (const array of Object.values(all)) array.dispose();
    },
  };
}
