import { bytesOf } from "../autograd/index.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import type { TrainingStep } from "./step_models.js";

/** Bytes of a training step: the most that is alive at one time, and what cannot be done without. */
export interface StepMemory {
  /** The most that is alive during a step, the batch included, other models not. */
  readonly peak: number;
  /** Batch, parameters, their gradients, the optimizer's state, and what backward needs of the forward pass. */
  readonly planned: number;
  readonly parameters: number;
  readonly gradients: number;
  readonly state: number;
  readonly saved: number;
}

/** Runs a forward pass and a whole step of a model that has been stepped before. */
export function stepMemory(step: TrainingStep): StepMemory {
  const parameters = step.model.parameters();
  const tensors = Object.values(step.optimizer.stateDict().parameters).flatMap((p) => Object.values(p.tensors));
  const [parameterBytes, state, batch] = [bytesOf(parameters), bytesOf(tensors), bytesOf(step.batch)];
  step.optimizer.zeroGrad();
  const before = heap.stats.liveBytes;
  const saved = scope(() => {
    step.forward();
    return heap.stats.liveBytes - before;
  });
  heap.resetPeak();
  step.step();
  const buffers = bytesOf(step.model.buffers());
  const own = batch + parameterBytes + state + buffers;
  return {
    peak: heap.stats.peakBytes - before + own,
    planned: own + parameterBytes + saved,
    parameters: parameterBytes,
    gradients: parameterBytes,
    ...{ state, saved },
  };
}
