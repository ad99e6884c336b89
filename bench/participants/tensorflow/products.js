export function matmul(tf, { transposeA, transposeB }, inputs) {
  const a = tf.tensor(inputs.a.data, inputs.a.shape);
  const b = tf.tensor(inputs.b.data, inputs.b.shape);
  const product = () => tf.matMul(a, b, transposeA, transposeB);
  return {
    run: { forward: () => tf.tidy(() => void product()) },
    results: async () => ({ y: await product().data() }),
    release: () => tf.dispose([a, b]),
  };
}

/** Channels last, and weights [height, width, in, out]: the layout that TensorFlow.js has kernels for. */
export function conv(tf, { padding, groups, inChannels }, inputs) {
  const t = (name, order) => {
    const given = tf.tensor(inputs[name].data, inputs[name].shape);
    return order ? tf.transpose(given, order) : given;
  };
  const depthwise = groups === inChannels && groups > 1;
  const [x, dy, bias] = [t("x", [0, 2, 3, 1]), t("dy", [0, 2, 3, 1]), t("bias")];
  const weight = t("weight", depthwise ? [2, 3, 0, 1] : [2, 3, 1, 0]);
  const form = (v, w, b) => (depthwise ? tf.depthwiseConv2d(v, w, 1, padding) : tf.conv2d(v, w, 1, padding)).add(b);
  const forward = () => form(x, weight, bias);
  const gradients = tf.grads(form);
  const backward = () => gradients([x, weight, bias], dy);
  return {
    includesForward: ["backward"],
    run: { forward: () => tf.tidy(() => void forward()), backward: () => tf.tidy(() => void backward()) },
    async results() {
      const y = { y: await tf.transpose(forward(), [0, 3, 1, 2]).data() };
      try {
        const [dx, dweight, dbias] = backward();
        return {
          ...y,
          dx: await tf.transpose(dx, [0, 3, 1, 2]).data(),
          dweight: await tf.transpose(dweight, depthwise ? [2, 3, 0, 1] : [3, 2, 0, 1]).data(),
          dbias: await dbias.data(),
        };
      } catch {
        return y; // A kernel that this backend lacks: the timing says so in words.
      }
    },
    release: () => tf.dispose([x, dy, bias, weight]),
  };
}
