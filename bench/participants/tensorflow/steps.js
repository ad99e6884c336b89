import { optimizers } from "../../cases/optimizers.js";
import { CHECKED_STEPS } from "../../cases/steps.js";
import { inLayout, models } from "./models.js";

const [beta1, beta2, adamEps] = [0.9, 0.999, 1e-8];

/** The layer that sees flattened images, and what was flattened. */
const flattened = {
  "digits-cnn": { name: "11.weight", channels: 32, size: 4 },
  cnn: { name: "9.weight", channels: 64, size: 7 },
};

export function step(tf, { model: name }, inputs) {
  const rules = optimizers[name];
  const forward = models(tf)[name];
  const classes = inputs.target.shape.length === 1;
  const keys = Object.keys(inputs).filter((key) => key.startsWith("p:") && !key.includes("running_"));
  const p = {};
  const state = {};
  for (const key of keys) {
    const short = key.slice(2);
    p[short] = tf.variable(inLayout(tf, short, inputs[key], flattened[name]));
    const zeros = () => tf.variable(tf.zerosLike(p[short]));
    state[short] = { m: zeros(), v: zeros() };
  }
  const given = tf.tensor(inputs.input.data, inputs.input.shape);
  const x = given.shape.length === 4 ? tf.transpose(given, [0, 2, 3, 1]) : given;
  const target = classes
    ? tf.oneHot(tf.tensor1d(Int32Array.from(inputs.target.data), "int32"), 10)
    : tf.tensor(inputs.target.data, inputs.target.shape);

  const lossOf = () => {
    const output = forward(p, x);
    if (!classes) return tf.mean(tf.square(output.sub(target)));
    return tf.mean(tf.sum(tf.mul(tf.logSoftmax(output), target), -1)).neg();
  };
  let t = 0;
  const update = (short, g) => {
    const { m, v } = state[short];
    const one = p[short];
    if (rules.rule === "sgd") {
      m.assign(m.mul(rules.momentum).add(g));
      one.assign(one.sub(m.mul(rules.lr)));
      return;
    }
    m.assign(m.mul(beta1).add(g.mul(1 - beta1)));
    v.assign(v.mul(beta2).add(tf.square(g).mul(1 - beta2)));
    const root = tf.sqrt(v.div(1 - beta2 ** t)).add(adamEps);
    one.assign(one.mul(1 - rules.lr * rules.decay).sub(m.mul(rules.lr / (1 - beta1 ** t)).div(root)));
  };
  const shortOf = new Map(Object.entries(p).map(([short, variable]) => [variable.name, short]));
  const train = () =>
    tf.tidy(() => {
      t++;
      const { value, grads } = tf.variableGrads(lossOf, Object.values(p));
      for (const [id, g] of Object.entries(grads)) update(shortOf.get(id), g);
      return value.dataSync()[0];
    });
  return {
    run: { train: () => void train() },
    results: () => ({ losses: Float64Array.from({ length: CHECKED_STEPS }, train) }),
    release() {
      tf.dispose([given, x, target, p, state]);
    },
  };
}
