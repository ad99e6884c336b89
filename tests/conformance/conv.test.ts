import { describe, expect, test } from "vitest";
import type { ConvPlan, KernelSet, Triple } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { blasConformance } from "./blas.js";
import { type ConformanceCase, conformance, Maker } from "./harness.js";

const volume = (t: Triple): number => t[0] * t[1] * t[2];

interface Shape {
  readonly batch?: number;
  readonly inChannels?: number;
  readonly outChannels?: number;
  readonly groups?: number;
  readonly input: Triple;
  readonly kernel: Triple;
  readonly stride?: Triple;
  readonly padding?: Triple;
  readonly dilation?: Triple;
}

function planOf(s: Shape): ConvPlan {
  const plan = {
    ...{ batch: 2, inChannels: 3, outChannels: 5, groups: 1 },
    ...{ stride: [1, 1, 1] as Triple, padding: [0, 0, 0] as Triple, dilation: [1, 1, 1] as Triple },
    ...s,
  };
  const along = (a: 0 | 1 | 2) => {
    const reach = plan.dilation[a] * (plan.kernel[a] - 1) + 1;
    return Math.floor((plan.input[a] + 2 * plan.padding[a] - reach) / plan.stride[a]) + 1;
  };
  return { ...plan, output: [along(0), along(1), along(2)] };
}

const lengths = (p: ConvPlan) => ({
  x: p.batch * p.inChannels * volume(p.input),
  y: p.batch * p.outChannels * volume(p.output),
  weight: (p.outChannels * p.inChannels * volume(p.kernel)) / p.groups,
});

function convCase(name: string, shape: Shape): ConformanceCase {
  const p = planOf(shape);
  const n = lengths(p);
  // Rounding a sum of `terms` float32 products is a random walk: its error grows with the square root of their number.
  const terms = Math.max(
    (p.inChannels / p.groups) * volume(p.kernel),
    (p.outChannels / p.groups) * volume(p.kernel),
    (p.batch * volume(p.output)) / 4,
  );
  return {
    name,
    tolerance: 1e-6 * Math.max(1, Math.sqrt(terms) / 8),
    run: (kernels: KernelSet, make) => {
      const [x, weight, bias, dy] = [
        make.normal(n.x),
        make.normal(n.weight),
        make.normal(p.outChannels),
        make.normal(n.y),
      ];
      const [y, plain, dx, dWeight] = [make.empty(n.y), make.empty(n.y), make.empty(n.x), make.empty(n.weight)];
      kernels.conv(x, weight, bias, y, p);
      kernels.conv(x, weight, null, plain, p);
      kernels.convInputGrad(dy, weight, dx, p);
      kernels.convWeightGrad(x, dy, dWeight, p);
      return [y, plain, dx, dWeight];
    },
  };
}

const shapes: Record<string, Shape> = {};
const flat = (h: number, w: number, depth = 1): Triple => [depth, h, w];

// 2-d: each kernel size and option on widths around the quad.
for (const [i, width] of [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33].entries()) {
  const height = [9, 6, 5, 7, 3, 8][i % 6]!;
  shapes[`3x3 same, ${height}x${width}`] = { input: flat(height, width), kernel: flat(3, 3), padding: flat(1, 1, 0) };
  shapes[`3x3 no padding, ${height}x${width + 2}`] = {
    ...{ input: flat(height, width + 2), kernel: flat(3, 3), inChannels: 6, outChannels: 7, batch: 3 },
  };
  shapes[`1x1, ${height}x${width}`] = { input: flat(height, width), kernel: flat(1, 1), inChannels: 7, outChannels: 9 };
  shapes[`3x2 stride 2x3, ${height}x${width}`] = {
    ...{ input: flat(height, width), kernel: flat(3, 2), stride: flat(2, 3), padding: flat(0, 1, 0) },
    ...{ batch: 3, inChannels: 4, outChannels: 8 },
  };
  shapes[`depthwise 3x3, ${height}x${width}`] = {
    ...{ input: flat(height, width), kernel: flat(3, 3), padding: flat(1, 1, 0) },
    ...{ inChannels: 5, outChannels: 5, groups: 5 },
  };
}
// Depthwise: each width of kernel that has a loop of its own, strides, paddings, planes of several units.
for (const [i, width] of [1, 2, 3, 4, 6, 7, 9, 13, 18, 31, 64].entries()) {
  for (const [kernel, stride] of [
    [flat(3, 3), flat(2, 2)],
    [flat(2, 3), flat(1, 3)],
    [flat(3, 3), flat(3, 4)],
    [flat(5, 5), flat(1, 1)],
    [flat(4, 7), flat(2, 1)],
    [flat(1, 3), flat(1, 1)],
  ] as const) {
    shapes[`depthwise ${kernel} stride ${stride}, ${width} wide`] = {
      ...{ input: flat(5 + i, width), kernel, stride, padding: flat(i % 3, 3, 0), batch: 3 },
      ...{ inChannels: 4 + (i % 3), outChannels: 4 + (i % 3), groups: 4 + (i % 3) },
    };
  }
}
shapes["depthwise, planes of several units"] = {
  ...{ input: flat(75, 70), kernel: flat(3, 3), padding: flat(1, 1, 0), inChannels: 5, outChannels: 5, groups: 5 },
};
shapes["depthwise, planes of several units, stride 2"] = {
  ...shapes["depthwise, planes of several units"]!,
  stride: flat(2, 2),
};
for (const groups of [1, 2, 3, 6]) {
  for (const multiplier of [1, 2, 5]) {
    shapes[`${groups} groups, ${multiplier} outputs each`] = {
      ...{ inChannels: 6, outChannels: groups * multiplier, groups, batch: 3 },
      ...{ input: flat(7, 6), kernel: flat(3, 3), padding: flat(1, 1, 0) },
    };
  }
}
Object.assign(shapes, {
  "padding beyond the kernel": { input: flat(3, 4), kernel: flat(2, 3), padding: flat(4, 5, 0) },
  "padding beyond the kernel, stride 2": {
    ...{ input: flat(3, 4), kernel: flat(2, 3), padding: flat(5, 7, 0), stride: flat(2, 2) },
  },
  "dilation 2 and 3": { input: flat(9, 11), kernel: flat(3, 3), dilation: flat(2, 3), padding: flat(2, 1, 0) },
  "dilation 2, stride 2": {
    ...{ input: flat(11, 12), kernel: flat(3, 3), dilation: flat(2, 2), stride: flat(2, 2), padding: flat(2, 2, 0) },
  },
  "dilation 3, stride 2": {
    ...{ input: flat(12, 14), kernel: flat(3, 4), dilation: flat(3, 3), stride: flat(2, 2), padding: flat(3, 3, 0) },
  },
  "dilation 4, stride 6": { input: flat(19, 23), kernel: flat(3, 3), dilation: flat(4, 4), stride: flat(6, 6) },
  "stride beyond the kernel, inputs that no window touches": {
    ...{ input: flat(11, 14), kernel: flat(2, 1), stride: flat(4, 3) },
  },
  patches: { input: flat(12, 16), kernel: flat(4, 4), stride: flat(4, 4), outChannels: 12 },
  "1x1 stride 2": { input: flat(7, 9), kernel: flat(1, 1), stride: flat(2, 2), inChannels: 6 },
  "1x1 padded": { input: flat(4, 5), kernel: flat(1, 1), padding: flat(1, 2, 0) },
  "kernel as large as the image": { input: flat(6, 5), kernel: flat(6, 5), inChannels: 4, outChannels: 9, batch: 5 },
  "5x5 of one channel": {
    input: flat(8, 8),
    kernel: flat(5, 5),
    padding: flat(2, 2, 0),
    inChannels: 1,
    outChannels: 1,
  },
  "one output channel of many": { input: flat(6, 9), kernel: flat(3, 3), inChannels: 7, outChannels: 1 },
  "digits, first layer": {
    input: flat(8, 8),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 1,
    outChannels: 16,
  },
  "1-d": { input: flat(1, 37), kernel: flat(1, 5), padding: flat(0, 2, 0), stride: flat(1, 2) },
  "1-d dilated": { input: flat(1, 50), kernel: flat(1, 3), dilation: flat(1, 7), padding: flat(0, 7, 0) },
  "1-d longer than a block": { input: flat(1, 1201), kernel: flat(1, 3), padding: flat(0, 1, 0), inChannels: 2 },
  "1-d longer than a block, not whole": { input: flat(1, 2063), kernel: flat(1, 4), stride: flat(1, 2), groups: 1 },
  "a column of values": { input: flat(29, 1), kernel: flat(3, 1), padding: flat(1, 0, 0) },
  "3-d": { input: [4, 5, 6], kernel: [3, 2, 3], padding: [1, 1, 1] },
  "3-d, all options": {
    ...{ input: [7, 8, 9], kernel: [3, 3, 2], padding: [2, 1, 1], stride: [2, 1, 3], dilation: [2, 1, 2] },
    ...{ groups: 2, inChannels: 4, outChannels: 6 },
  },
  "3-d depthwise": { input: [3, 4, 5], kernel: [2, 2, 2], groups: 3, outChannels: 3 },
  "3-d with a last axis of 1": { input: [5, 7, 1], kernel: [3, 3, 1], padding: [1, 1, 0] },
  "many channels: several blocks of k": {
    input: flat(5, 6),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 61,
    outChannels: 37,
  },
  "image larger than a block": {
    input: flat(70, 66),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 17,
    outChannels: 6,
    batch: 1,
  },
  "wide image, row blocks and column blocks": {
    input: flat(5, 530),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 30,
    batch: 1,
  },
  "batch for threads": {
    input: flat(8, 8),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 16,
    outChannels: 32,
    batch: 19,
  },
  "batch for threads, depthwise": {
    input: flat(13, 13),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 16,
    outChannels: 16,
    groups: 16,
    batch: 9,
  },
  "3x3, units of several images and more rows than a block": {
    input: flat(7, 5),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 13,
    outChannels: 70,
    batch: 23,
  },
  "3x3, more columns of tiles than a unit": {
    input: flat(5, 411),
    kernel: flat(3, 3),
    padding: flat(1, 1, 0),
    inChannels: 4,
  },
  "3x3, many channels, few tiles": { input: flat(4, 3), kernel: flat(3, 3), inChannels: 300, outChannels: 134 },
  "3x3, padding beyond the kernel": {
    input: flat(6, 7),
    kernel: flat(3, 3),
    padding: flat(3, 4, 0),
    inChannels: 6,
    outChannels: 9,
  },
  "1x1, images that share a block of positions": {
    input: flat(7, 7),
    kernel: flat(1, 1),
    inChannels: 37,
    outChannels: 70,
    batch: 23,
  },
  "1x1, groups": { input: flat(5, 5), kernel: flat(1, 1), groups: 3, inChannels: 33, outChannels: 27, batch: 4 },
  "1x1, groups, batch for threads": {
    ...{ input: flat(14, 14), kernel: flat(1, 1), groups: 2, inChannels: 40, outChannels: 24, batch: 9 },
  },
  "1x1, single values": { input: flat(1, 1), kernel: flat(1, 1), inChannels: 36, outChannels: 25, batch: 41 },
  "1x1, more rows than a unit": {
    input: flat(9, 9),
    kernel: flat(1, 1),
    inChannels: 18,
    outChannels: 302,
  },
  "1x1, weights of several spans": {
    input: flat(2, 1),
    kernel: flat(1, 1),
    inChannels: 1030,
    outChannels: 1045,
    batch: 1,
  },
  "1x1, 3-d": { input: [3, 4, 5], kernel: [1, 1, 1], inChannels: 9, outChannels: 14 },
  "no images": { input: flat(4, 4), kernel: flat(3, 3), batch: 0 },
} satisfies Record<string, Shape>);

const cases = Object.entries(shapes).map(([name, shape]) => convCase(name, shape));
conformance("conv", cases);
blasConformance("conv", cases);

/** Convolution is linear in x and in the weight, so its gradients are the adjoint maps: <conv(x, w), dy> = <x, dx> = <w, dw>. */
describe("conv: reference gradients are adjoint to the convolution", () => {
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
  for (const name of Object.keys(shapes).filter((name) => !name.includes("threads") && !name.includes("block"))) {
    test(name, () => {
      const p = planOf(shapes[name]!);
      const n = lengths(p);
      const make = new Maker("float64", 7);
      const [x, weight, dy] = [make.normal(n.x), make.normal(n.weight), make.normal(n.y)];
      const [y, dx, dWeight] = [make.empty(n.y), make.empty(n.x), make.empty(n.weight)];
      reference.conv(x, weight, null, y, p);
      reference.convInputGrad(dy, weight, dx, p);
      reference.convWeightGrad(x, dy, dWeight, p);
      const size = Math.sqrt(dot(y.view, y.view) * dot(dy.view, dy.view)) || 1;
      const product = dot(y.view, dy.view);
      expect(Math.abs(dot(x.view, dx.view) - product) / size).toBeLessThan(1e-13);
      expect(Math.abs(dot(weight.view, dWeight.view) - product) / size).toBeLessThan(1e-13);
      make.release();
    });
  }
});
