import { loopback } from "../../dist/distributed/index.js";
import { models, sizesOf, training } from "./models.js";
import { timeInTurns } from "./turns.js";

/** Throws unless all ranks have the same bits in all parameters. */
function checkAlike(communicator, { parameters }, name) {
  for (const p of parameters) {
    const bits = new Int32Array(p.storage.view.slice().buffer);
    const of = communicator.allGather(bits, { equalLengths: true });
    if (of.some((other) => other.some((v, i) => v !== of[0][i])))
      throw new Error(`${name}: ranks have different parameters after the same steps`);
  }
}

/** Steps until the compiler has seen enough of them: as many on all ranks. */
function warmUp(communicator, { step }, milliseconds) {
  const start = performance.now();
  for (let i = 0; i < 3; i++) step();
  const took = Float64Array.of((performance.now() - start) / 3);
  communicator.allReduce(took, "max");
  for (let left = milliseconds / took[0]; left > 0; left--) step();
}

/**
 * Milliseconds of a training step, by model. alone: one rank with its own batch, the others asleep. beside: every rank by itself at the
 * same time, without messages: what the cores' shared memory and clock leave. in step: so, but each waits for the slowest after every
 * step. weak: all together, each with that batch, gradients sent while backward goes on; sent after: in one message after it. strong:
 * all together, the batch divided among them. weak synchronized: with statistics of all ranks' batches.
 */
export function timeSteps({ ordered }, pace, names) {
  const { rank, size } = ordered;
  return models
    .filter(({ name }) => names.includes(name))
    .map((model) => {
      const own = training(model, { communicator: loopback, seed: 1 + rank });
      const joined = training(model, { communicator: ordered, seed: 1 + rank });
      const after = training(model, { communicator: ordered, sent: "after", seed: 1 + rank });
      const part = Math.ceil(model.batch / size);
      const inStep = () => {
        own.step();
        ordered.barrier();
      };
      const ways = {
        alone: { body: () => own.step(), among: (r) => r === 0 },
        beside: { body: () => own.step() },
        "in step": { body: inStep },
        weak: { body: () => joined.step() },
        "weak, sent after": { body: () => after.step() },
        strong: { body: () => joined.step(part) },
        "part alone": { body: () => own.step(part), among: (r) => r === 0 },
      };
      const synchronized =
        model.normalized && training(model, { communicator: ordered, synchronized: true, seed: 1 + rank });
      if (synchronized) ways["weak synchronized"] = { body: () => synchronized.step() };
      warmUp(ordered, own, pace.warmUp);
      const all = [joined, after, ...(synchronized ? [synchronized] : [])];
      for (const one of all) {
        warmUp(ordered, one, pace.warmUp);
        checkAlike(ordered, one, model.name);
      }
      const times = timeInTurns(ordered, ways, pace);
      for (const one of all) checkAlike(ordered, one, model.name);
      for (const one of [own, ...all]) one.dispose();
      return { model: model.name, batch: model.batch, ...sizesOf(model), times };
    });
}
