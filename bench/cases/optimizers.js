/** How each training step updates its parameters; the formulas are those of torch.optim. */
export const optimizers = {
  "digits-cnn": { rule: "adam", lr: 1e-3, decay: 0.01 },
  cnn: { rule: "sgd", lr: 0.01, momentum: 0.9 },
  mlp: { rule: "sgd", lr: 0.01, momentum: 0.9 },
  transformer: { rule: "adam", lr: 1e-3, decay: 0 },
};
