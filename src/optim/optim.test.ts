import { describe, expect, test } from "vitest";
import { tensor } from "../autograd/index.js";
import { Adam, AdamW, CosineWarmup, clipGradNorm, RMSprop, SGD, StepLR, weightDecayGroups } from "./index.js";

const parameter = (values: number[] = [1, 2, 3]) => tensor(values, { requiresGrad: true });

describe("what optimizers refuse", () => {
  const p = parameter();
  const cases: [string, () => unknown, RegExp][] = [
    ["NaN lr", () => new SGD([p], { lr: Number.NaN }), /SGD lr must be a finite number of at least 0; got NaN/],
    ["negative lr", () => new Adam([p], { lr: -1 }), /lr must be/],
    ["an unknown option", () => new AdamW([p], { wieghtDecay: 1 } as object), /Did you mean "weightDecay"/],
    ["beta of 1", () => new Adam([p], { betas: [0.9, 1] }), /betas\[1\] must be a number in \[0, 1\)/],
    ["Nesterov without momentum", () => new SGD([p], { nesterov: true }), /Nesterov momentum needs/],
    ["no parameters", () => new RMSprop([]), /takes parameters.*got none/],
    ["one twice", () => new SGD([p, p]), /named twice/],
    ["results of ops", () => new SGD([p.mul(2)]), /tensors that no op made/],
    ["a group with an unknown option", () => new SGD([{ params: [p], momentm: 1 } as never]), /"momentum"/],
    ["a schedule without total", () => new CosineWarmup(new SGD([p]), { total: 0 }), /total must be/],
    ["a step size of 0", () => new StepLR(new SGD([p]), 0), /stepSize must be/],
  ];
  for (const [name, make, message] of cases) test(name, () => expect(make).toThrow(message));

  test("a state of another model", () => {
    const state = new Adam([parameter(), parameter()]).stateDict();
    expect(() => new Adam([p]).loadStateDict(state)).toThrow(/groups of 1 parameters; got a state with 2/);
  });
});

test("groups have options of their own; zeroGrad forgets", () => {
  const [a, b] = [parameter(), parameter()];
  const sgd = new SGD([{ params: [a], lr: 1 }, { params: [b] }], { lr: 0.5 });
  a.grad = tensor([1, 1, 1]);
  b.grad = tensor([1, 1, 1]);
  sgd.step();
  expect(a.toArray()).toEqual([0, 1, 2]);
  expect(b.toArray()).toEqual([0.5, 1.5, 2.5]);
  sgd.zeroGrad();
  expect(a.grad).toBeNull();
  sgd.step();
  expect(a.toArray()).toEqual([0, 1, 2]);
});

test("weightDecayGroups leaves biases, vectors and marked parameters out", () => {
  const named: [string, ReturnType<typeof parameter> & { noWeightDecay?: boolean }][] = [
    ["conv.weight", tensor([[1, 2]], { requiresGrad: true })],
    ["conv.bias", parameter()],
    ["norm.weight", Object.assign(tensor([[1, 2]], { requiresGrad: true }), { noWeightDecay: true })],
    ["odd.bias", tensor([[1, 2]], { requiresGrad: true })],
  ];
  const groups = weightDecayGroups({ namedParameters: () => named }, 0.1);
  expect(groups.map((g) => [g.weightDecay, g.params.length])).toEqual([
    [0.1, 1],
    [0, 3],
  ]);
});

test("cosine with warm-up: rises, falls, rests, and resumes", () => {
  const sgd = new SGD([parameter()], { lr: 1 });
  const schedule = new CosineWarmup(sgd, { warmup: 3, total: 7, minFactor: 0.1 });
  const rates = [sgd.paramGroups[0]!.lr];
  for (let i = 0; i < 8; i++) {
    schedule.step();
    rates.push(sgd.paramGroups[0]!.lr);
  }
  const want = [0.25, 0.5, 0.75, 1, 0.1 + 0.45 * (1 + Math.SQRT1_2), 0.55, 0.1 + 0.45 * (1 - Math.SQRT1_2), 0.1, 0.1];
  for (const [i, rate] of rates.entries()) expect(rate).toBeCloseTo(want[i]!, 6);
  const again = new SGD([parameter()], { lr: 1 });
  const resumed = new CosineWarmup(again, { warmup: 3, total: 7, minFactor: 0.1 });
  resumed.loadStateDict({ count: 4 });
  resumed.step();
  expect(again.paramGroups[0]!.lr).toBe(rates[5]);
});

test("clipGradNorm leaves small gradients alone and refuses NaN", () => {
  const p = parameter();
  p.grad = tensor([3, 4, 0]);
  expect(clipGradNorm([p], 10)).toBe(5);
  expect(p.grad.toArray()).toEqual([3, 4, 0]);
  p.grad = tensor([Number.NaN, 0, 0]);
  expect(() => clipGradNorm([p], 1)).toThrow(/norm is finite; got NaN/);
});
