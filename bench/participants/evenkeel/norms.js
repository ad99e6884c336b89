import { grad, nn, noGrad, scope, tensor } from "../../../dist/index.js";
import { numbersOf } from "./numbers.js";

const make = {
  batch: ({ channels, layout }, o) => new nn.BatchNorm2d(channels, { ...o, axis: layout === "first" ? 1 : -1 }),
  batch1d: ({ channels }, o) => new nn.BatchNorm1d(channels, o),
  layer: ({ shape }, o) => new nn.LayerNorm(shape.slice(1), o),
  layer2d: ({ channels }, o) => new nn.LayerNorm2d(channels, o),
  group: ({ channels, groups, layout }, o) =>
    new nn.GroupNorm(groups, channels, { ...o, axis: layout === "first" ? 1 : -1 }),
  instance: ({ channels, layout }, o) =>
    new nn.InstanceNorm2d(channels, { ...o, affine: true, axis: layout === "first" ? 1 : -1 }),
  rms: ({ shape }, o) => new nn.RMSNorm(shape.slice(1), o),
};

export function norm(subject, inputs, { dtype = "float32", device = "cpu" } = {}) {
  const at = (device, name, shape) => tensor(inputs[name].data, { shape: shape ?? inputs[name].shape, dtype, device });
  const given = (name, shape) => at("cpu", name, shape);
  const layer = make[subject.norm](subject, { dtype, eps: 1e-5 });
  const evaluating = make[subject.norm](subject, { dtype, eps: 1e-5 }).eval();
  const names = { weight: "weight", bias: "bias", running_mean: "mean", running_var: "variance" };
  for (const one of [layer, evaluating]) {
    const state = one.stateDict();
    for (const [name, from] of Object.entries(names)) {
      if (state[name] && inputs[from]) state[name] = given(from, state[name].shape);
    }
    one.loadStateDict(state);
    one.to(device);
  }
  const x = at(device, "x");
  const dy = at(device, "dy");
  x.requiresGrad = true;
  const wanted = [x, layer.weight, ...(layer.bias ? [layer.bias] : [])];
  const y = layer.forward(x);
  const backward = () => grad(y, wanted, { gradOutput: dy, retainGraph: true });
  return {
    run: {
      forward: () => scope(() => void layer.forward(x)),
      backward: () => scope(() => void backward()),
      eval: () => scope(() => void noGrad(() => evaluating.forward(x))),
    },
    results: () =>
      numbersOf(() => {
        const grads = backward();
        const all = { y: y.detach(), eval: noGrad(() => evaluating.forward(x)) };
        for (const [i, g] of grads.entries()) all[["dx", "dweight", "dbias"][i]] = g;
        return all;
      }),
    release() {
      for (const t of [x, dy, y]) t.dispose();
    },
  };
}
