import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";
import { erf } from "./erf.js";

const curves = { tanh: Math.tanh, erf };
const slopes = {
  tanh: (z: number) => 1 - Math.tanh(z) ** 2,
  erf: (z: number) => (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z),
};

export const dynamicActivation: Pick<KernelSet, "dynamicActivation" | "dynamicActivationGrad"> = {
  dynamicActivation(x, weight, bias, y, { size, alpha, shift, op }) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    const [ws, bs] = [weight && heap.view(weight), bias && heap.view(bias)];
    for (let i = 0; i < xs.length; i++) {
      ys[i] = (ws ? ws[i % size]! : 1) * curves[op](alpha * xs[i]! + shift) + (bs ? bs[i % size]! : 0);
    }
  },

  dynamicActivationGrad(x, dy, weight, out, sums, { size, alpha, shift, op }) {
    const [xs, dys, dxs] = [heap.view(x), heap.view(dy), out.dx && heap.view(out.dx)];
    const ws = weight && heap.view(weight);
    const [dWeight, dBias] = [new Float64Array(size), new Float64Array(size)];
    let [sumHX, sumH] = [0, 0];
    for (let i = 0; i < xs.length; i++) {
      const z = alpha * xs[i]! + shift;
      const h = (ws ? ws[i % size]! : 1) * dys[i]! * slopes[op](z);
      if (dxs) dxs[i] = alpha * h;
      dWeight[i % size]! += dys[i]! * curves[op](z);
      dBias[i % size]! += dys[i]!;
      sumHX += h * xs[i]!;
      sumH += h;
    }
    if (out.dWeight) heap.view(out.dWeight).set(dWeight);
    if (out.dBias) heap.view(out.dBias).set(dBias);
    heap.view(sums).set([sumHX, sumH]);
  },
};
