import { stepModels } from "../../../dist/cli/step_models.js";
import { capture, manualSeed, scope } from "../../../dist/index.js";
import { CHECKED_STEPS } from "../../cases/steps.js";

const copyOf = (t) => ({ shape: t.shape, data: Float32Array.from(t.dataSync()) });

export function step({ model: name }) {
  manualSeed(0);
  const training = stepModels.find((m) => m.name === name).build(0);
  const { model, optimizer, batch } = training;
  const parameters = Object.fromEntries(
    Object.entries(model.stateDict())
      .filter(([key]) => key !== "num_batches_tracked" && !key.endsWith(".num_batches_tracked"))
      .map(([key, t]) => [`p:${key}`, copyOf(t)]),
  );
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
