/**
 * The training steps with channels last: (p, x) => output, p being variables by name. Running statistics do not enter the
 * loss and are left out, which saves TensorFlow.js a little work.
 */
const eps = 1e-5;

export function models(tf) {
  const block = (p, at, x) => {
    const y = tf.conv2d(x, p[`${at}.weight`], 1, "same").add(p[`${at}.bias`]);
    const { mean, variance } = tf.moments(y, [0, 1, 2]);
    return tf.relu(tf.batchNorm(y, mean, variance, p[`${at + 1}.bias`], p[`${at + 1}.weight`], eps));
  };
  const pool = (x) => tf.maxPool(x, 2, 2, "valid");
  const linear = (x, w, b) => tf.matMul(x, w, false, true).add(b);
  const dense = (p, at, x) => linear(x, p[`${at}.weight`], p[`${at}.bias`]);
  const flat = (x) => x.reshape([x.shape[0], -1]);
  const layerNorm = (p, at, x) => {
    const { mean, variance } = tf.moments(x, [-1], true);
    return x
      .sub(mean)
      .mul(tf.rsqrt(variance.add(eps)))
      .mul(p[`${at}.weight`])
      .add(p[`${at}.bias`]);
  };
  const gelu = (x) => x.mul(0.5).mul(tf.erf(x.mul(Math.SQRT1_2)).add(1));
  const attention = (p, at, rows, n, heads) => {
    const [count, features] = rows.shape;
    const [length, width] = [count / n, features / heads];
    const qkv = linear(rows, p[`${at}.in_proj_weight`], p[`${at}.in_proj_bias`]);
    const parts = tf.transpose(qkv.reshape([n, length, 3, heads, width]), [2, 0, 3, 1, 4]);
    const [q, k, v] = tf.unstack(parts.reshape([3, n * heads, length, width]));
    const mixed = tf.matMul(tf.softmax(tf.matMul(q, k, false, true).mul(1 / Math.sqrt(width))), v);
    const joined = tf.transpose(mixed.reshape([n, heads, length, width]), [0, 2, 1, 3]).reshape([count, features]);
    return dense(p, `${at}.out_proj`, joined);
  };
  return {
    "digits-cnn": (p, x) => dense(p, 11, flat(block(p, 7, pool(block(p, 3, block(p, 0, x)))))),
    cnn: (p, x) => dense(p, 9, flat(pool(block(p, 4, pool(block(p, 0, x)))))),
    mlp: (p, x) => dense(p, 4, tf.relu(dense(p, 2, tf.relu(dense(p, 0, x))))),
    transformer: (p, x) => {
      const [n, length, features] = x.shape;
      const rows = x.reshape([n * length, features]);
      const y = rows.add(attention(p, "attention", layerNorm(p, "norm1", rows), n, 8));
      return y.add(dense(p, "mlp.2", gelu(dense(p, "mlp.0", layerNorm(p, "norm2", y))))).reshape(x.shape);
    },
  };
}

/** A convolution's weight as [height, width, in, out]; a linear layer behind flattened images by channels last. */
export function inLayout(tf, name, { data, shape }, lastImage) {
  const given = tf.tensor(data, shape);
  if (shape.length === 4) return tf.transpose(given, [2, 3, 1, 0]);
  if (!lastImage || name !== lastImage.name) return given;
  const [classes] = shape;
  const { channels, size } = lastImage;
  return tf.transpose(given.reshape([classes, channels, size, size]), [0, 2, 3, 1]).reshape(shape);
}
