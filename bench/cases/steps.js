/**
 * Whole training steps: forward, loss, backward, update. Evenkeel builds the model, and hands its parameters and its
 * batch on to the others, which are held to the same losses over the first steps.
 */
export const step = (model) => ({ kind: "step", id: `step ${model}`, model, modes: ["train"] });

export const steps = ["digits-cnn", "cnn", "mlp", "transformer"].map(step);

/** Steps whose losses are compared: Evenkeel runs the first as it is, captures the second and replays the third. */
export const CHECKED_STEPS = 3;
