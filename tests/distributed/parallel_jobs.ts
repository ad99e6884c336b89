import { capture, noGrad, type Tensor, tensor } from "../../src/autograd/index.js";
import { type Communicator, loopback, type Numbers } from "../../src/base/communicator.js";
import type { Pending } from "../../src/base/pending.js";
import { manualSeed, Random } from "../../src/base/random.js";
import { DistributedDataParallel, GradientReducer } from "../../src/distributed/index.js";
import { heap } from "../../src/memory/heap.js";
import { scope } from "../../src/memory/scope.js";
import { ActNorm, BatchNorm, Linear, ReLU, reducedGradients, Sequential, SyncBatchNorm } from "../../src/nn/index.js";
import { clipGradNorm, SGD } from "../../src/optim/index.js";

/** What is sent, by the number of elements; with `random`, sums come late, and in another order on each rank. */
export function observed(c: Communicator, random?: Random): { communicator: Communicator; lengths: number[] } {
  const lengths: number[] = [];
  const allReduceAsync = (data: Numbers, how: "sum" | "max" | "min"): Pending<void> => {
    lengths.push(data.length);
    if (!random) return c.allReduceAsync(data, how);
    const copy = data.slice();
    c.allReduce(copy, how);
    let left = Math.floor(8 * random.uniform());
    const arrive = () => {
      data.set(copy);
      left = -1;
    };
    const test = () => {
      if (left-- === 0) arrive();
      return left < 0;
    };
    return {
      test,
      wait: () => void (left >= 0 && arrive()),
      // biome-ignore lint/suspicious/noThenProperty: part of Pending, which nobody awaits here.
      then: (resolved) => Promise.resolve().then(resolved as () => never),
    };
  };
  const communicator: Communicator = {
    rank: c.rank,
    size: c.size,
    allReduce(data, how) {
      lengths.push(data.length);
      c.allReduce(data, how);
    },
    allReduceAsync,
    allGather: (data, options) => c.allGather(data, options),
    allGatherAsync: (data, options) => c.allGatherAsync(data, options),
    broadcast(data, root) {
      lengths.push(data.length);
      c.broadcast(data, root);
    },
    broadcastAsync: (data, root) => c.broadcastAsync(data, root),
    barrier: () => c.barrier(),
    barrierAsync: () => c.barrierAsync(),
    split: (color) => c.split(color),
    splitByNode: () => c.splitByNode(),
    abort: (reason) => c.abort(reason),
  };
  return { communicator, lengths };
}

const IN = 4;
const HIDDEN = 6;

/** One of them is used twice, one in no loss, one is frozen, one has its gradient as it came, and one is of another type. */
function parameters(): Record<string, Tensor> {
  const random = new Random(5);
  const make = (shape: number[], dtype: "float64" | "float32" = "float64") => {
    const size = shape.reduce((a, b) => a * b, 1);
    const p = tensor(
      Float64Array.from({ length: size }, () => random.normal()),
      { shape, dtype },
    );
    p.requiresGrad = true;
    return p;
  };
  const ps = {
    first: make([IN, HIDDEN]),
    single: make([HIDDEN], "float32"),
    bias: make([HIDDEN]),
    twice: make([HIDDEN, HIDDEN]),
    unused: make([3]),
    frozen: make([HIDDEN]),
    last: make([HIDDEN, 2]),
    single2: make([2], "float32"),
  };
  ps.frozen.requiresGrad = false;
  return ps;
}

const SAMPLES = 23;
const batchOf = (from: number, to: number): Tensor => {
  const random = new Random(29);
  const all = Float64Array.from({ length: SAMPLES * IN }, () => random.normal());
  return tensor(all.subarray(from * IN, to * IN), { shape: [to - from, IN], dtype: "float64" });
};

/** The sum over samples, so that losses of parts add up. */
function lossSum(p: Record<string, Tensor>, x: Tensor): Tensor {
  const h = x.matmul(p.first!).add(p.bias!).mul(p.frozen!).tanh().add(p.single!.cast("float64"));
  const g = h.matmul(p.twice!).tanh().matmul(p.twice!).tanh();
  return g.matmul(p.last!).add(p.single2!.cast("float64")).square().sum();
}

export interface GradientJob {
  /** Where each rank's part of the batch begins, and where the last one ends. */
  readonly starts: readonly number[];
  readonly bucketBytes?: number;
  readonly gradients: "sum" | "mean";
  /** Seed of when messages come. */
  readonly delays?: number;
  /** Passes that send nothing before the one that does, each with its share of the samples. */
  readonly quiet?: number;
  /** Passes that send, without clearing gradients between them. */
  readonly loud?: number;
}

export interface GradientResult {
  readonly grads: Record<string, number[] | null>;
  readonly lengths: number[];
}

/** Gradients of the loss of all samples, of this rank's part of them. */
export function gradients(c: Communicator, job: GradientJob): GradientResult {
  const { starts, bucketBytes = 1 << 20, delays, quiet = 0, loud = 1 } = job;
  const ps = parameters();
  const { communicator, lengths } = observed(c, delays === undefined ? undefined : new Random(delays + 31 * c.rank));
  const reducer = new GradientReducer(communicator, Object.values(ps), { bucketBytes, gradients: job.gradients });
  const total = job.gradients === "sum" ? SAMPLES : SAMPLES / c.size;
  const [from, to] = [starts[c.rank]!, starts[c.rank + 1]!];
  const passes = quiet + loud;
  for (let k = 0; k < passes; k++) {
    const at = (i: number) => from + Math.floor((i * (to - from)) / passes);
    const pass = () =>
      scope(() =>
        lossSum(ps, batchOf(at(k), at(k + 1)))
          .div(total)
          .backward(),
      );
    if (k < quiet) reducer.noSync(pass);
    else pass();
  }
  reducer.close();
  const grads = Object.entries(ps).map(([name, p]) => [name, p.grad ? [...p.grad.dataSync()] : null]);
  return { grads: Object.fromEntries(grads), lengths };
}

/** What one process has for all samples. */
export const gradientsAlone = (): GradientResult => gradients(loopback, { starts: [0, SAMPLES], gradients: "sum" });

/** A backward that throws on all ranks half-way, then one that does not; then none after close. Bytes that are left of it all. */
function afterAnError(c: Communicator, delays: number) {
  const ps = parameters();
  const { communicator, lengths } = observed(c, new Random(delays + c.rank));
  const before = heap.stats.liveBytes;
  const reducer = new GradientReducer(communicator, Object.values(ps), { bucketBytes: 64, gradients: "sum" });
  const parts = [0, 1, 2].map((r) => Math.floor((r * SAMPLES) / 2));
  const pass = () =>
    scope(() =>
      lossSum(ps, batchOf(parts[c.rank]!, parts[c.rank + 1]!))
        .div(SAMPLES)
        .backward(),
    );
  const clear = () => {
    for (const p of Object.values(ps)) {
      p.grad?.dispose();
      p.grad = null;
    }
  };
  const remove = ps.twice!.registerPostAccumulateGradHook(() => {
    throw new RangeError("half-way");
  });
  let message = "";
  try {
    pass();
  } catch (error) {
    message = (error as Error).message;
  }
  remove();
  const sent = lengths.length;
  clear();
  pass();
  const grads = Object.fromEntries(Object.entries(ps).map(([n, p]) => [n, p.grad ? [...p.grad.dataSync()] : null]));
  clear();
  reducer.close();
  reducer.close();
  const all = lengths.length;
  pass();
  clear();
  return { message, sent, grads, afterClose: lengths.length - all, left: heap.stats.liveBytes - before };
}

/** Two parameters change places between frozen and learned: the buckets follow. */
function thaw(c: Communicator) {
  const ps = parameters();
  const { communicator, lengths } = observed(c);
  new GradientReducer(communicator, Object.values(ps), { gradients: "sum" });
  const pass = () => scope(() => lossSum(ps, batchOf(0, 2)).backward());
  pass();
  ps.frozen!.requiresGrad = true;
  ps.first!.requiresGrad = false;
  const without = ps.first!.grad!.toArray();
  pass();
  return { lengths, frozen: ps.frozen!.grad !== null, same: `${ps.first!.grad!.toArray()}` === `${without}` };
}

function refusals(c: Communicator): string[] {
  const p = tensor([1, 2], { requiresGrad: true });
  const reducer = new GradientReducer(c, [p]);
  const told: string[] = [];
  const refuse = (body: () => unknown) => {
    try {
      body();
      told.push("nothing");
    } catch (error) {
      told.push((error as Error).message);
    }
  };
  refuse(() => p.square().sum().backward(null, { createGraph: true }));
  p.grad = null;
  refuse(() => reducer.noSync(() => p.square().sum().backward(null, { createGraph: true })));
  p.grad = null;
  const captured = capture(() => {
    p.grad = null;
    p.square().sum().backward();
  });
  refuse(captured);
  refuse(captured);
  refuse(() => reducer.noSync(async () => {}));
  return told;
}

/** Rank 1's copy is another one. */
function otherCopies(c: Communicator, what: "shape" | "type" | "number" | "frozen" | "state"): void {
  const odd = c.rank === 1;
  const p = tensor([1, 2, 3], { shape: odd && what === "shape" ? [3, 1] : [3], requiresGrad: true });
  const q = tensor([1], { dtype: odd && what === "type" ? "float64" : "float32", requiresGrad: true });
  if (odd && what === "frozen") q.requiresGrad = false;
  if (what !== "state") new GradientReducer(c, odd && what === "number" ? [p] : [p, q]);
  else new DistributedDataParallel(new Sequential(new Linear(2, odd ? 4 : 3)), { communicator: c });
}

interface NetResult {
  readonly state: Record<string, number[]>;
  readonly lengths: number[];
  readonly norms: number[];
}

/** Steps of a net under DistributedDataParallel, from another start on each rank. */
function trainNet(
  c: Communicator,
  job: { norm: "plain" | "own" | "mean" | "none"; starts: readonly number[] },
): NetResult {
  manualSeed(3 + c.rank);
  const { communicator, lengths } = observed(c);
  const dtype = "float64";
  const norms = {
    plain: () => [new BatchNorm(5, { dtype })],
    own: () => [new SyncBatchNorm(5, { dtype, communicator })],
    mean: () => [new SyncBatchNorm(5, { dtype, communicator, affineGradients: "mean" })],
    none: () => [],
  };
  const net = new Sequential(
    new Linear(IN, 5, { dtype }),
    ...norms[job.norm](),
    new ReLU(),
    new Linear(5, 2, { dtype }),
  );
  const model = new DistributedDataParallel(net, { communicator, bucketBytes: 100 });
  const optimizer = new SGD(model.parameters(), { lr: 0.05, momentum: 0.9 });
  const [from, to] = [job.starts[c.rank]!, job.starts[c.rank + 1]!];
  const clipped: number[] = [];
  for (let step = 0; step < 4; step++) {
    scope(() => {
      optimizer.zeroGrad();
      model
        .forward(batchOf(from, to))
        .square()
        .sum()
        .mul(c.size / SAMPLES)
        .backward();
      clipped.push(clipGradNorm(model.parameters(), 0.5));
      optimizer.step();
    });
  }
  const state = Object.entries(model.stateDict()).map(([name, t]) => [name, [...t.dataSync()]]);
  return { state: Object.fromEntries(state), lengths, norms: clipped };
}

export const trainAlone = (norm: "plain" | "none"): NetResult => trainNet(loopback, { norm, starts: [0, SAMPLES] });

/** Steps of a net in float32 whose gradients take several messages, long and short. A number made of all bits of its parameters. */
function trainWide(c: Communicator): { bits: number; hidden: number; messages: number } {
  manualSeed(8);
  const widths = [64, 1000, 1000, 10];
  const linear = (i: number) => new Linear(widths[i]!, widths[i + 1]!);
  const net = new Sequential(linear(0), new ReLU(), linear(1), new ReLU(), linear(2));
  const model = new DistributedDataParallel(net, { communicator: c, bucketBytes: 50_000 });
  const optimizer = new SGD(model.parameters(), { lr: 0.05, momentum: 0.9 });
  const random = new Random(1 + c.rank);
  for (let step = 0; step < 3; step++) {
    scope(() => {
      const x = tensor(
        Float32Array.from({ length: 16 * 64 }, () => random.normal()),
        { shape: [16, 64] },
      );
      optimizer.zeroGrad();
      model.forward(x).square().mean().backward();
      optimizer.step();
    });
  }
  let bits = 7;
  for (const p of model.parameters()) {
    const words = new Uint32Array(Float32Array.from(p.dataSync()).buffer);
    for (let i = 0; i < words.length; i++) bits = (Math.imul(bits, 31) + words[i]!) | 0;
  }
  const { hidden, messages } = model.statistics;
  return { bits, hidden, messages };
}

/** Messages of one training forward, of one in noSync, and of one in evaluation. */
function bufferMessages(c: Communicator, norm: "plain" | "own"): { counts: number[]; means: number[] } {
  const { communicator, lengths } = observed(c);
  const layer = norm === "plain" ? new BatchNorm(IN) : new SyncBatchNorm(IN, { communicator });
  const model = new DistributedDataParallel(new Sequential(layer), { communicator });
  const x = batchOf(8 * c.rank, 8 * c.rank + 8).cast("float32");
  const counts: number[] = [];
  const count = (body: () => unknown) => {
    lengths.length = 0;
    noGrad(body);
    counts.push(lengths.length);
  };
  count(() => model.forward(x));
  if (norm === "plain") count(() => model.noSync(() => model.forward(x)));
  count(() => model.eval().forward(x));
  model.train();
  count(() => model.forward(x));
  return { counts, means: [...layer.runningMean!.dataSync()] };
}

/** What the second training forward says of a layer that each rank has set by its own first batch. */
function setByOwnBatch(c: Communicator): string {
  const model = new DistributedDataParallel(new Sequential(new ActNorm(IN)), { communicator: c });
  const x = batchOf(8 * c.rank, 8 * c.rank + 8).cast("float32");
  model.forward(x).square().sum().backward();
  try {
    model.forward(x);
    return "nothing";
  } catch (error) {
    return (error as Error).message;
  } finally {
    model.dispose();
  }
}

/** Layers that reduce their own gradients with a reducer that does, or should, not go with them. */
function reducedLayers(c: Communicator): string[] {
  return (["sum", "mean"] as const).flatMap((how) =>
    (["sum", "mean"] as const).map((gradients) => {
      const { communicator, lengths } = observed(c);
      const layer = new SyncBatchNorm(IN, { communicator, affineGradients: how });
      try {
        const reducer = new GradientReducer(communicator, layer.parameters(), {
          gradients,
          reduced: reducedGradients(layer),
        });
        lengths.length = 0;
        layer.forward(batchOf(0, 4).cast("float32")).square().sum().backward();
        reducer.close();
        return `${how} ${gradients}: ${lengths.length}`;
      } catch (error) {
        return `${how} ${gradients}: ${(error as Error).name}`;
      }
    }),
  );
}

export const parallelJobs = {
  gradients,
  afterAnError,
  thaw,
  refusals,
  otherCopies,
  trainNet,
  trainWide,
  bufferMessages,
  setByOwnBatch,
  reducedLayers,
  /** Rank 1 throws in the middle of its backward. */
  oneThrows(c: Communicator) {
    const p = tensor([1, 2], { requiresGrad: true });
    const q = tensor([1, 2], { requiresGrad: true });
    new GradientReducer(c, [p, q], { bucketBytes: 4 });
    if (c.rank === 1) {
      q.registerPostAccumulateGradHook(() => {
        throw new RangeError("no more");
      });
    }
    p.exp().mul(q).sum().backward();
  },
};
