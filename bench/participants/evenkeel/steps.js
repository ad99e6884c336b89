import { stepModels } from "../../../dist/cli/step_models.js";
import { capture, manualSeed, scope } from "../../../dist/index.js";
import { CHECKED_STEPS } from "../../cases/steps.js";
import { numbersOf } from "./numbers.js";

const copyOf = (t) => ({ shape: t.shape, data: Float32Array.from(t.dataSync()) });

export function step({ model: name }, _inputs, { device = "cpu" } = {}) {
  manualSeed(0);
  const training = stepModels.find((m) => m.name === name).build(0);
  const { model, optimizer, batch } = training;
  const parameters = Object.fromEntries(
    Object.entries(model.stateDict())
      .filter(([key]) => key !== "num_batches_tracked" && !key.endsWith(".num_batches_tracked"))
      .map(([key, t]) => [`p:${key}`, copyOf(t)]),
  );
  if (device !== "cpu") return stepOn(device, training, parameters);
  const update = capture(training.update);
  const train = () => scope(() => update().item());
  const given = { ...parameters, input: copyOf(batch.input), target: copyOf(batch.target) };
  return {
    given,
    run: { train: () => void train() },
    results: () => ({ losses: Float64Array.from({ length: CHECKED_STEPS }, train) }),
    release() {
      update.dispose();
      optimizer.dispose?.();
      model.dispose?.();
      batch.input.dispose();
      batch.target.dispose();
    },
  };
}

/** A step as it is, on a device; its loss stays there. */
function stepOn(device, { model, optimizer, loss, batch }, parameters) {
  const given = { ...parameters, input: copyOf(batch.input), target: copyOf(batch.target) };
  model.to(device);
  const [input, target] = [batch.input.to(device), batch.target.to(device)];
  const update = () => {
    optimizer.zeroGrad();
    const value = loss.forward(model.forward(input), target);
    value.backward();
    optimizer.step();
    return value.detach();
  };
  return {
    given,
    run: { queue: () => scope(() => void update()) },
    async results() {
      const losses = [];
      for (let i = 0; i < CHECKED_STEPS; i++) losses.push((await numbersOf(() => ({ value: update() }))).value[0]);
      return { losses: Float64Array.from(losses) };
    },
    release() {
      optimizer.dispose();
      model.dispose();
      for (const t of [batch.input, batch.target, input, target]) t.dispose();
    },
  };
}
