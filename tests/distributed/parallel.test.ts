import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loopback } from "../../src/base/communicator.js";
import { DistributedDataParallel, GradientReducer } from "../../src/distributed/index.js";
import { Linear } from "../../src/nn/index.js";
import { type GradientJob, type GradientResult, gradientsAlone, trainAlone } from "./parallel_jobs.js";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
}, 60_000);
afterAll(() => ranks.dispose());

const onAll = async <T>(size: number, job: string, input: unknown): Promise<T[]> =>
  valuesOf(
    await ranks.run<T>(
      size,
      job,
      Array.from({ length: size }, () => input),
    ),
  );

/** The largest difference, against the largest number of each list. */
function worst(
  a: Record<string, number[] | null>,
  b: Record<string, number[] | null>,
  names: readonly string[],
): number {
  return Math.max(
    ...names.map((name) => {
      const [x, y] = [a[name]!, b[name]!];
      expect(x.length).toBe(y.length);
      const scale = Math.max(...y.map(Math.abs));
      return Math.max(...x.map((v, i) => Math.abs(v - y[i]!))) / scale;
    }),
  );
}

const doubles = ["first", "bias", "twice", "last"];
const singles = ["single", "single2"];

function expectWhole(all: readonly GradientResult[]): void {
  const alone = gradientsAlone();
  for (const { grads } of all) expect(grads).toEqual(all[0]!.grads);
  const { grads } = all[0]!;
  expect(worst(grads, alone.grads, doubles)).toBeLessThan(1e-12);
  // Each rank rounds its part to float32 once, and the sum is rounded again: (size + 1) / 2 ulp of 6e-8.
  expect(worst(grads, alone.grads, singles)).toBeLessThan(4e-7);
  expect(grads.frozen).toBe(null);
  expect(grads.unused).toEqual([0, 0, 0]);
}

describe("GradientReducer", () => {
  const cases: [string, number, GradientJob][] = [
    ["one bucket a type", 2, { starts: [0, 11, 23], gradients: "sum" }],
    ["buckets of one parameter, uneven parts", 3, { starts: [0, 1, 15, 23], gradients: "sum", bucketBytes: 1 }],
    ["buckets of some, a rank without samples", 4, { starts: [0, 9, 9, 20, 23], gradients: "sum", bucketBytes: 100 }],
    ["means", 3, { starts: [0, 8, 16, 23], gradients: "mean", bucketBytes: 100 }],
    ["accumulated: sums", 2, { starts: [0, 12, 23], gradients: "sum", quiet: 2 }],
    ["accumulated: means, few samples", 4, { starts: [0, 2, 5, 6, 23], gradients: "mean", quiet: 3, bucketBytes: 64 }],
    ["sums not cleared between passes that send", 3, { starts: [0, 7, 16, 23], gradients: "sum", loud: 3 }],
    ["means not cleared, after quiet passes", 2, { starts: [0, 10, 23], gradients: "mean", quiet: 1, loud: 2 }],
  ];
  for (const [title, size, job] of cases) {
    test(`gradients of the joined batch on ${size} ranks: ${title}`, async () => {
      expectWhole(await onAll<GradientResult>(size, "gradients", job));
    });
  }

  test("the bits do not depend on when messages come, and buckets are sent in one order", async () => {
    const job: GradientJob = { starts: [0, 3, 12, 23], gradients: "sum", bucketBytes: 48 };
    const [prompt] = await onAll<GradientResult>(3, "gradients", job);
    for (const delays of [1, 2, 3]) {
      const late = await onAll<GradientResult>(3, "gradients", { ...job, delays });
      for (const rank of late) expect(rank).toEqual(prompt);
    }
  });

  test("passes in noSync send nothing", async () => {
    const job: GradientJob = { starts: [0, 12, 23], gradients: "sum" };
    const [once] = await onAll<GradientResult>(2, "gradients", job);
    expect(once!.lengths.length).toBe(2); // one for each type
    for (const quiet of [1, 4]) {
      const all = await onAll<GradientResult>(2, "gradients", { ...job, quiet });
      for (const { lengths } of all) expect(lengths).toEqual(once!.lengths);
    }
  });

  test("a pass that throws on all ranks leaves nothing behind; the next one is right, and after close none sends", async () => {
    type Result = GradientResult & { message: string; sent: number; afterClose: number; left: number };
    for (const rank of await onAll<Result>(2, "afterAnError", 7)) {
      expect(rank.message).toBe("half-way");
      expect(rank.sent).toBeGreaterThan(0);
      expect(worst(rank.grads, gradientsAlone().grads, doubles)).toBeLessThan(1e-12);
      expect([rank.afterClose, rank.left]).toEqual([0, 0]);
    }
  });

  test("a rank that throws alone: the others are told why they wait for nobody", async () => {
    const [first, second] = await ranks.run(2, "oneThrows", [null, null], { timeout: 1 });
    expect(second).toEqual({ error: "RangeError", message: "no more" });
    expect(first).toMatchObject({ error: "CommunicationError" });
  });

  test("parameters that are frozen or thawed on all ranks leave or join", async () => {
    for (const rank of await onAll<{ lengths: number[]; frozen: boolean; same: boolean }>(2, "thaw", null)) {
      const [a, b, c, d] = rank.lengths as [number, number, number, number];
      expect(a + b - (c + d)).toBe(4 * 6 - 6);
      expect([rank.lengths.length, rank.frozen, rank.same]).toEqual([4, true, true]);
    }
  });

  test("what cannot send says so", async () => {
    const [told] = await onAll<string[]>(2, "refusals", null);
    expect(told![0]).toMatch(/backward with createGraph/);
    expect(told![1]).toBe("nothing");
    expect(told![2]).toBe("nothing");
    expect(told![3]).toMatch(/backward in a captured function/);
    expect(told![4]).toMatch(/synchronous function/);
  });

  test("copies that differ are refused on all ranks, by the first difference", async () => {
    for (const [what, text] of [
      ["shape", /parameter 0: float32 \[3\] on rank 0, parameter 0: float32 \[3, 1\] on rank 1/],
      ["type", /parameter 1: float32 \[1\] on rank 0, parameter 1: float64 \[1\] on rank 1/],
      ["number", /parameter 1: float32 \[1\] on rank 0, nothing after 1 tensors on rank 1/],
      ["frozen", /parameter 1 \(frozen\)/],
      ["state", /0\.weight: float32 \[3, 2\] on rank 0, 0\.weight: float32 \[4, 2\] on rank 1/],
    ] as const) {
      for (const outcome of await ranks.run(2, "otherCopies", [what, what])) {
        expect(outcome).toMatchObject({ error: "CommunicationError", message: expect.stringMatching(text) });
      }
    }
  });

  test("layers that reduce their own gradients are passed by where they do what the reducer does", async () => {
    for (const rank of await onAll<string[]>(2, "reducedLayers", null)) {
      // The layer's own message of backward is one of those counted.
      expect(rank).toEqual(["sum sum: 1", "sum mean: OptionError", "mean sum: 2", "mean mean: 1"]);
    }
  });

  test("one rank alone: nothing to do, and options are checked", () => {
    const layer = new Linear(2, 2);
    const reducer = new GradientReducer(loopback, layer.parameters());
    expect(reducer.statistics.messages).toBe(0);
    expect(layer.weight.vertex.watchers).toBe(null);
    const make = (options: object) => () => new GradientReducer(loopback, [], options);
    expect(make({ bucketBytes: 0 })).toThrow(/bucketBytes must be/);
    expect(make({ gradients: "average" })).toThrow(/"sum" or "mean"/);
    expect(make({ bucket: 1 })).toThrow(/bucketBytes/);
  });
});

describe("DistributedDataParallel", () => {
  type Net = ReturnType<typeof trainAlone>;

  test("learns what one process learns, from rank 0's start; equal bits, norms of clipping too", async () => {
    const alone = trainAlone("none");
    for (const [size, starts] of [
      [2, [0, 11, 23]],
      [4, [0, 1, 9, 9, 23]],
    ] as const) {
      const all = await onAll<Net>(size, "trainNet", { norm: "none", starts });
      for (const rank of all) expect({ ...rank, lengths: 0 }).toEqual({ ...all[0]!, lengths: 0 });
      expect(Object.keys(all[0]!.state)).toEqual(Object.keys(alone.state));
      expect(worst(all[0]!.state, alone.state, Object.keys(alone.state))).toBeLessThan(1e-12);
    }
  });

  test("with synchronized normalization too, whether the layer reduces its own gradients or not", async () => {
    const alone = trainAlone("plain");
    const messages: number[] = [];
    for (const norm of ["own", "mean"]) {
      const all = await onAll<Net>(3, "trainNet", { norm, starts: [0, 5, 5, 23] });
      for (const rank of all) expect(rank.state).toEqual(all[0]!.state);
      expect(worst(all[0]!.state, alone.state, Object.keys(alone.state))).toBeLessThan(1e-12);
      messages.push(all[0]!.lengths.length);
    }
    expect(messages[1]).toBeLessThanOrEqual(messages[0]!);
  });

  test("buffers are rank 0's before a training forward, in one message, where layers do not keep them alike", async () => {
    const plain = await onAll<{ counts: number[]; means: number[] }>(2, "bufferMessages", "plain");
    for (const rank of plain) expect(rank.counts).toEqual([1, 0, 0, 1]);
    const synchronized = await onAll<{ counts: number[]; means: number[] }>(2, "bufferMessages", "own");
    // Statistics go by allGather, which is not counted.
    for (const rank of synchronized) expect(rank.counts).toEqual([0, 0, 0]);
    expect(synchronized[1]!.means).toEqual(synchronized[0]!.means);
  });

  test("a layer that each rank has set by its own first batch is found out", async () => {
    for (const said of await onAll<string>(2, "setByOwnBatch", null)) {
      expect(said).toMatch(
        /same parameters after every step; got 0\.weight and 1 other on rank 1 unlike rank 0's.*convertSyncBatchNorm/,
      );
    }
  });

  test("names, options and what it wraps", () => {
    const inner = new Linear(2, 3);
    const model = new DistributedDataParallel(inner, { communicator: loopback });
    expect(Object.keys(model.stateDict())).toEqual(["module.weight", "module.bias"]);
    expect(model.module).toBe(inner);
    expect(model.noSync(() => 5)).toBe(5);
    // @ts-expect-error a communicator is needed
    expect(() => new DistributedDataParallel(inner, {})).toThrow(/communicator must be a Communicator/);
    // @ts-expect-error no module
    expect(() => new DistributedDataParallel(3, { communicator: loopback })).toThrow(/wraps a Module/);
    expect(() => new DistributedDataParallel(inner, { communicator: loopback, bufers: 1 } as never)).toThrow(/bufers/);
    model.dispose();
  });
});
