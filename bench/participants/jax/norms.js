import { arrays, finished, numbers } from "./arrays.js";

const eps = 1e-5;

/** Normalization as its users write it: two passes over x, the whole compiled by jit. */
export function norm(jax, { shape, view, reduce, affine }, inputs) {
  const np = jax.numpy;
  const all = arrays(jax, inputs);
  const keep = { keepdims: true };
  const seen = (v) => v.reshape(view);
  const scaled = (centred, variance, w, b) => {
    const xhat = centred.mul(np.reciprocal(np.sqrt(variance.add(eps)))).mul(w.reshape(affine));
    return (b ? xhat.add(b.reshape(affine)) : xhat).reshape(shape);
  };
  const forms = {
    moments: (v, w, b) => {
      const x = seen(v);
      const centred = x.ref.sub(np.mean(x, reduce, keep));
      const variance = np.mean(centred.ref.mul(centred.ref), reduce, keep);
      return scaled(centred, variance, w, b);
    },
    squares: (v, w) => {
      const x = seen(v);
      const mean = np.mean(x.ref.mul(x.ref), reduce, keep);
      return scaled(x, mean, w, null);
    },
    running: (v, w, b, mean, variance) => scaled(seen(v).sub(mean.reshape(affine)), variance.reshape(affine), w, b),
  };
  const names = all.bias ? ["x", "weight", "bias"] : ["x", "weight"];
  const refs = (list) => list.map((name) => all[name].ref);
  const form = all.bias ? forms.moments : forms.squares;
  const forward = jax.jit(form);
  const running = jax.jit(forms.running);
  // d sum(y * dy) gives all gradients; it runs the forward pass too, whose time is taken off.
  const gradients = jax.jit(
    jax.grad(
      (...args) =>
        form(...args.slice(0, names.length))
          .mul(args.at(-1))
          .sum(),
      {
        argnums: names.map((_, i) => i),
      },
    ),
  );
  const evaluate = () =>
    all.mean ? running(...refs(["x", "weight", "bias", "mean", "variance"])) : forward(...refs(names));
  return {
    includesForward: ["backward"],
    run: {
      forward: () => finished(forward(...refs(names))),
      backward: () => finished(gradients(...refs(names), all.dy.ref)),
      eval: () => finished(evaluate()),
    },
    async results() {
      const [dx, dweight, dbias] = gradients(...refs(names), all.dy.ref);
      return numbers({ y: forward(...refs(names)), eval: evaluate(), dx, dweight, ...(dbias ? { dbias } : {}) });
    },
    release() {
      for (const array of Object.values(all)) array.dispose();
    },
  };
}
