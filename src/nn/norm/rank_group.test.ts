import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { noWebGPU } from "../../../tests/conformance/webgpu_mirror.js";
import { capture, randn, type Tensor } from "../../autograd/index.js";
import { type Elements, loopback } from "../../base/communicator.js";
import type { DType } from "../../base/dtype.js";
import { DTypeError, OptionError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { Checkpoint } from "../checkpoint.js";
import type { Module } from "../module.js";
import { ActNorm, EvoNormB0, noStatsUpdate, PowerNorm, SwitchableNorm, VirtualBatchNorm } from "./index.js";
import type { CommunicatorOption } from "./rank_group.js";
import { updateStatistics } from "./surgery/index.js";

/** A group of two ranks that have the same batches. */
const twin = {
  ...loopback,
  size: 2,
  allGather: <T extends Elements>(data: T): T[] => [data.slice() as T, data.slice() as T],
  allReduce: (data: Float64Array | Float32Array) => data.set(data.map((v) => 2 * v)),
};

type Options = CommunicatorOption & { readonly dtype?: DType };
const layers: Readonly<Record<string, (o: Options) => Module>> = {
  ActNorm: (o) => new ActNorm(2, o),
  VirtualBatchNorm: (o) => new VirtualBatchNorm(2, o),
  SwitchableNorm: (o) => new SwitchableNorm(2, o),
  EvoNormB0: (o) => new EvoNormB0(2, o),
  PowerNorm: (o) => new PowerNorm(2, { ...o, warmupIters: 1 }),
};
const draw = (seed: number, shape = [3, 2, 4]) => randn(shape, { dtype: "float64", random: new Random(seed) });
const list = (t: Tensor) => [...t.dataSync()];

describe.each(Object.entries(layers))("%s over several ranks", (_name, make) => {
  test("recomputed in a checkpoint: the same", () => {
    const results = [false, true].map((again) => {
      const layer = make({ dtype: "float64", communicator: twin });
      const module = again ? new Checkpoint(layer) : layer;
      return [1, 2, 3].map((seed) => {
        layer.zeroGrad();
        const y = module.forward(draw(seed));
        const dx = module.backward(draw(10 + seed));
        return [y, dx, ...layer.parameters().flatMap((p) => [p, p.grad!]), ...layer.buffers()].map(list);
      });
    });
    expect(results[1]).toEqual(results[0]);
  });

  test("inside noStatsUpdate nothing moves", () => {
    const layer = make({ dtype: "float64", communicator: twin });
    const state = () => Object.values(layer.stateDict()).map(list);
    const before = state();
    noStatsUpdate(() => layer.forward(draw(1)));
    expect(state()).toEqual(before);
  });

  test("in a captured function it refuses, and says so", () => {
    const layer = make({ dtype: "float64", communicator: twin });
    const step = capture((x: Tensor) => layer.forward(x));
    const says = /sends messages, which a captured function cannot repeat; got a training forward/;
    // What has had its first batch in the run before the capture sends nothing more.
    const sends = !(layer instanceof ActNorm || layer instanceof VirtualBatchNorm);
    step(draw(1));
    if (sends) expect(() => step(draw(1))).toThrow(says);
    step.dispose();
  });

  test.skipIf(noWebGPU !== null)("training on another device is refused before anything is sent", () => {
    const never = { ...twin, allGather: () => expect.unreachable() };
    const layer = make({ communicator: never });
    layer.to("webgpu");
    const x = draw(1).cast("float32").to("webgpu");
    expect(() => layer.forward(x)).toThrow(
      /over several ranks trains on the CPU, where their messages lie; got an input on webgpu/,
    );
    if (!(layer instanceof VirtualBatchNorm)) expect(layer.eval().forward(x).shape).toEqual([3, 2, 4]);
  });

  test("types are checked before anything is sent; what is no communicator", () => {
    const never = { ...twin, allGather: () => expect.unreachable() };
    expect(() => make({ communicator: never }).forward(draw(1))).toThrow(DTypeError);
    for (const bad of [{}, "mpi", 2]) expect(() => make({ communicator: bad as never })).toThrow(OptionError);
  });
});

test("updateStatistics takes in the batches of all ranks", () => {
  const batches = [3, 5].map((n) => draw(n, [n, 2, 4]));
  const [layer, alone] = [
    new SwitchableNorm(2, { dtype: "float64", communicator: twin }),
    new SwitchableNorm(2, { dtype: "float64" }),
  ];
  updateStatistics(layer, batches);
  updateStatistics(alone, [...batches, ...batches]);
  for (const name of ["runningMean", "runningVar"] as const) {
    expect(relativeError(layer[name]!.dataSync(), alone[name]!.dataSync())).toBeLessThanOrEqual(1e-14);
  }
});
