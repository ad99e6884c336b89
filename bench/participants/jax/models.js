/**
 * The training steps as pure functions: (p, x) => output, p being parameters by name. Batch normalization's running
 * statistics do not enter the loss and are left out, which saves jax-js a little work.
 */
const eps = 1e-5;

export function models(jax) {
  const np = jax.numpy;
  const keep = { keepdims: true };

  const linear = (x, w, b) => np.matmul(x, np.matrixTranspose(w)).add(b);
  const normalize = (x, axes) => {
    const centred = x.ref.sub(np.mean(x, axes, keep));
    const variance = np.mean(centred.ref.mul(centred.ref), axes, keep);
    return centred.mul(np.reciprocal(np.sqrt(variance.add(eps))));
  };
  const convolve = (p, at, x) => {
    const pads = [
      [1, 1],
      [1, 1],
    ];
    const y = jax.lax.convGeneralDilated(x, p[`${at}.weight`].ref, [1, 1], pads);
    return y.add(p[`${at}.bias`].ref.reshape([1, -1, 1, 1]));
  };
  const batchNorm = (p, at, x) =>
    normalize(x, [0, 2, 3])
      .mul(p[`${at}.weight`].ref.reshape([1, -1, 1, 1]))
      .add(p[`${at}.bias`].ref.reshape([1, -1, 1, 1]));
  const block = (p, at, x) => jax.nn.relu(batchNorm(p, at + 1, convolve(p, at, x)));
  const pool = (x) => {
    const [n, c, h, w] = x.shape;
    return np.max(x.reshape([n, c, h / 2, 2, w / 2, 2]), [3, 5]);
  };
  const dense = (p, at, x) => linear(x, p[`${at}.weight`].ref, p[`${at}.bias`].ref);
  const flat = (x) => x.reshape([x.shape[0], -1]);

  const layerNorm = (p, at, x) => normalize(x, [-1]).mul(p[`${at}.weight`].ref).add(p[`${at}.bias`].ref);
  const attention = (p, at, x, heads) => {
    const [n, length, features] = x.shape;
    const width = features / heads;
    const qkv = linear(x, p[`${at}.in_proj_weight`].ref, p[`${at}.in_proj_bias`].ref);
    const parts = np.transpose(qkv.reshape([n, length, 3, heads, width]), [2, 0, 3, 1, 4]);
    const [q, k, v] = [0, 1, 2].map((i) => parts.ref.slice(i));
    parts.dispose();
    const scores = np.matmul(q, np.matrixTranspose(k)).mul(1 / Math.sqrt(width));
    const mixed = np.matmul(jax.nn.softmax(scores, -1), v);
    return dense(p, `${at}.out_proj`, np.transpose(mixed, [0, 2, 1, 3]).reshape([n, length, features]));
  };

  return {
    "digits-cnn": (p, x) => dense(p, 11, flat(block(p, 7, pool(block(p, 3, block(p, 0, x)))))),
    cnn: (p, x) => dense(p, 9, flat(pool(block(p, 4, pool(block(p, 0, x)))))),
    mlp: (p, x) => dense(p, 4, jax.nn.relu(dense(p, 2, jax.nn.relu(dense(p, 0, x))))),
    transformer: (p, x) => {
      const y = x.ref.add(attention(p, "attention", layerNorm(p, "norm1", x), 8));
      const hidden = jax.nn.gelu(dense(p, "mlp.0", layerNorm(p, "norm2", y.ref)), { approximate: false });
      return y.add(dense(p, "mlp.2", hidden));
    },
  };
}
