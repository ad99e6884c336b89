const eps = 1e-5;

/**
 * Normalization as TensorFlow.js offers it: batchNorm over channels last, and for the rest tf.moments with arithmetic
 * around it (its layerNormalization is that too).
 */
export function norm(tf, { norm, layout, shape, view, reduce, affine }, inputs) {
  const t = (name, as) => tf.tensor(inputs[name].data, as);
  const x = t("x", shape);
  const dy = t("dy", shape);
  const batched = (norm === "batch" && layout === "last") || norm === "batch1d";
  const weight = t("weight", batched ? [inputs.weight.shape[0]] : affine);
  const bias = inputs.bias ? t("bias", batched ? [inputs.bias.shape[0]] : affine) : null;
  const running = inputs.mean && {
    mean: t("mean", batched ? undefined : affine),
    variance: t("variance", batched ? undefined : affine),
  };

  const by = ({ mean, variance }, v, w, b) =>
    v
      .sub(mean)
      .mul(tf.rsqrt(variance.add(eps)).mul(w))
      .add(b);
  const forms = {
    batched: (v, w, b) => {
      const { mean, variance } = tf.moments(v, shape.slice(1).length === 1 ? [0] : [0, 1, 2]);
      return tf.batchNorm(v, mean, variance, b, w, eps);
    },
    moments: (v, w, b) => {
      const seen = v.reshape(view);
      return by(tf.moments(seen, reduce, true), seen, w, b).reshape(shape);
    },
    squares: (v, w) => {
      const seen = v.reshape(view);
      return seen
        .mul(tf.rsqrt(tf.mean(tf.square(seen), reduce, true).add(eps)))
        .mul(w)
        .reshape(shape);
    },
  };
  const form = forms[batched ? "batched" : bias ? "moments" : "squares"];
  const operands = bias ? [x, weight, bias] : [x, weight];
  const forward = () => form(...operands);
  const evaluate = () => {
    if (!running) return forward();
    if (batched) return tf.batchNorm(x, running.mean, running.variance, bias, weight, eps);
    return by(running, x.reshape(view), weight, bias).reshape(shape);
  };
  // The gradient function runs the forward pass too; its time is taken off where only backward is asked for.
  const gradients = tf.grads(form);
  const all = () => gradients(operands, dy);
  return {
    includesForward: ["backward"],
    run: {
      forward: () => tf.tidy(() => void forward()),
      backward: () => tf.tidy(() => void all()),
      eval: () => tf.tidy(() => void evaluate()),
    },
    async results() {
      const [dx, dweight, dbias] = all();
      const named = { y: forward(), eval: evaluate(), dx, dweight, ...(dbias ? { dbias } : {}) };
      const entries = await Promise.all(Object.entries(named).map(async ([name, r]) => [name, await r.data()]));
      tf.dispose(named);
      return Object.fromEntries(entries);
    },
    release: () => tf.dispose([x, dy, weight, bias, running]),
  };
}
