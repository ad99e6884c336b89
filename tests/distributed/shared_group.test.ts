import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { OptionError, StateError } from "../../src/base/errors.js";
import { Random } from "../../src/base/random.js";
import { joinGroup, loopback, sharedGroup } from "../../src/distributed/index.js";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
});
afterAll(() => ranks.dispose());
const none = (size: number) => Array<null>(size).fill(null);

describe("sharedGroup", () => {
  for (const size of [1, 2, 3, 4]) {
    test(`${size} ranks: every call gives what its name says, the same bits on all`, async () => {
      const got = valuesOf(await ranks.run<number[][]>(size, "calls", none(size)));
      const streams = Array.from({ length: size }, (_, rank) => new Random(100 + rank));
      for (let i = 0; i < 200; i++) {
        const numbers = streams.map((s) => Array.from({ length: 7 }, () => s.normal()));
        const column = (f: (v: number[]) => number) => numbers[0]!.map((_, k) => f(numbers.map((n) => n[k]!)));
        const want = [
          ...column((v) => v.reduce((a, b) => a + b)),
          ...column((v) => Math.max(...v)),
          ...column((v) => Math.fround(Math.min(...v))),
          ...numbers[i % size]!,
          ...numbers.flatMap((n, rank) => [(i + 3 * rank) % 5, ...n.slice(0, (i + 3 * rank) % 5)]),
        ];
        for (const result of got) expect(result[i]).toEqual(want);
      }
    });
  }

  test("messages longer than one piece", async () => {
    type Long = { numbers: Float64Array; single: Float32Array; parts: Float64Array[] };
    const got = valuesOf(await ranks.run<Long>(3, "long", none(3)));
    const of = (rank: number, i: number) => 1 / (1 + i + rank);
    for (const { numbers, single, parts } of got) {
      expect(numbers.every((v, i) => v === of(0, i) + of(1, i) + of(2, i))).toBe(true);
      const f = Math.fround;
      expect(single.every((v, i) => v === f(f(of(0, i)) + f(of(1, i)) + f(of(2, i))))).toBe(true);
      expect(parts.map((p) => p.length)).toEqual([20_011, 0, 20_009]);
      for (const [rank, p] of parts.entries()) expect(p.every((v, i) => v === of(rank, i))).toBe(true);
    }
  });

  test("a rank that gives up wakes the others", async () => {
    const [a, b, c] = await ranks.run(3, "throws", none(3));
    expect(b).toEqual({ error: "Error", message: "no more data" });
    for (const other of [a, c]) {
      expect(other).toMatchObject({ error: "CommunicationError" });
      expect(other).toHaveProperty("message", expect.stringMatching(/got Rank 1 gave the group up: no more data/));
    }
  });

  test("so does a worker that dies, through abortGroup", async () => {
    const [a, b] = await ranks.run(2, "dies", none(2));
    expect(b).toMatchObject({ error: "Exit" });
    expect(a).toMatchObject({ error: "CommunicationError" });
    expect(a).toHaveProperty("message", expect.stringMatching(/the worker of rank 1 ended with code 7/));
  });

  test("who does not come in time is named", async () => {
    const outcomes = await ranks.run(3, "late", none(3), { timeout: 0.5 });
    expect(outcomes[2]).toEqual({ value: undefined });
    for (const o of outcomes.slice(0, 2)) {
      expect(o).toMatchObject({ error: "CommunicationError" });
      expect(o).toHaveProperty("message", expect.stringMatching(/rank 2 did not come within 0.5 seconds/));
    }
  });

  for (const [job, said] of [
    ["otherCall", /allReduce sum of float64 \[2\] on rank 0, barrier on rank 1/],
    ["otherLength", /allReduce sum of float64 \[0\] on rank 0, allReduce sum of float64 \[20011\] on rank 1/],
    ["otherType", /allGather of float64 on rank 0, allGather of float32 on rank 1/],
    ["otherRoot", /broadcast from rank 0 of float64 \[1\] on rank 0, broadcast from rank 1/],
    ["again", /barrier on rank 1/],
  ] as const) {
    test(`ranks that do different things all throw: ${job}`, async () => {
      for (const o of await ranks.run(3, job, none(3))) {
        expect(o).toMatchObject({ error: "CommunicationError" });
        expect(o).toHaveProperty("message", expect.stringMatching(said));
      }
    });
  }

  test("joining", () => {
    const group = sharedGroup(2, { timeout: 0.05 });
    for (const bad of [-1, 2, 0.5]) expect(() => joinGroup(group, bad)).toThrow(OptionError);
    const rank = joinGroup(group, 0);
    expect(() => joinGroup(group, 0)).toThrow(StateError);
    expect(() => rank.broadcast(new Float64Array(1), 2)).toThrow(OptionError);
    expect(() => rank.barrier()).toThrow(/rank 1 \(which never joined\) did not come within 0.05 seconds/);
    for (const bad of [0, 1.5]) expect(() => sharedGroup(bad)).toThrow(OptionError);
    for (const timeout of [0, -1, Number.NaN]) expect(() => sharedGroup(2, { timeout })).toThrow(OptionError);
    expect(() => sharedGroup(2, { timeOut: 5 } as object)).toThrow(/Did you mean "timeout"/);
  });

  test("loopback", () => {
    const data = new Float64Array([1, 2]);
    loopback.allReduce(data, "sum");
    loopback.broadcast(data, 0);
    loopback.barrier();
    loopback.abort("nothing waits");
    const [copy] = loopback.allGather(data);
    expect([...copy!]).toEqual([1, 2]);
    expect(copy).not.toBe(data);
  });
});
