import { optimizers } from "../../cases/optimizers.js";
import { CHECKED_STEPS } from "../../cases/steps.js";
import { models } from "./models.js";

const [beta1, beta2, adamEps] = [0.9, 0.999, 1e-8];

/** One update; `corrections` holds 1 - beta1^t and 1 - beta2^t. Gives the new [p, m, v]. */
function update(np, { rule, lr, momentum, decay }, p, g, m, v, corrections) {
  if (rule === "sgd") {
    const velocity = m.mul(momentum).add(g);
    return [p.sub(velocity.ref.mul(lr)), velocity, v];
  }
  const mean = m.mul(beta1).add(g.ref.mul(1 - beta1));
  const square = v.mul(beta2).add(g.ref.mul(g).mul(1 - beta2));
  const [first, second] = [corrections.ref.slice(0), corrections.slice(1)];
  const root = np.sqrt(square.ref.div(second)).add(adamEps);
  return [p.mul(1 - lr * decay).sub(mean.ref.div(first).mul(lr).div(root)), mean, square];
}

/** A whole step under one jit: loss, gradients and updates. */
export function step(jax, { model: name }, inputs) {
  const np = jax.numpy;
  const array = ({ data, shape }) => np.array(data).reshape(shape);
  const names = Object.keys(inputs).filter((key) => key.startsWith("p:") && !key.includes("running_"));
  const keys = names.map((key) => key.slice(2));
  const rules = optimizers[name];
  const forward = models(jax)[name];
  const classes = inputs.target.shape.length === 1;
  const x = array(inputs.input);
  const target = classes ? jax.nn.oneHot(np.array(Int32Array.from(inputs.target.data)), 10) : array(inputs.target);

  const lossOf = (parameters, input, wanted) => {
    const p = Object.fromEntries(keys.map((key, i) => [key, parameters[i]]));
    const output = forward(p, input);
    for (const array of parameters) array.dispose();
    if (classes) return np.mean(jax.nn.logSoftmax(output, -1).mul(wanted).sum(-1)).neg();
    const difference = output.sub(wanted);
    return np.mean(difference.ref.mul(difference));
  };
  const stepOf = jax.jit((p, m, v, corrections, input, wanted) => {
    const [loss, grads] = jax.valueAndGrad(lossOf)(
      p.map((a) => a.ref),
      input,
      wanted,
    );
    const next = p.map((one, i) => update(np, rules, one, grads[i], m[i], v[i], corrections.ref));
    corrections.dispose();
    return [loss, next.map((n) => n[0]), next.map((n) => n[1]), next.map((n) => n[2])];
  });

  let p = names.map((key) => array(inputs[key]));
  let m = names.map((key) => np.zeros(inputs[key].shape));
  let v = names.map((key) => np.zeros(inputs[key].shape));
  let t = 0;
  const train = async () => {
    t++;
    const corrections = np.array(Float32Array.of(1 - beta1 ** t, 1 - beta2 ** t));
    let loss;
    [loss, p, m, v] = stepOf(p, m, v, corrections, x.ref, target.ref);
    for (const array of p) await array.blockUntilReady();
    return (await loss.data())[0];
  };
  return {
    run: { train },
    async results() {
      const losses = new Float64Array(CHECKED_STEPS);
      for (let i = 0; i < losses.length; i++) losses[i] = await train();
      return { losses };
    },
    release() {
      for (const array of [...p, ...m, ...v, x, target]) array.dispose();
    },
  };
}
