import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { efficiencyChart, messagesChart } from "../../bench/scaling/charts.js";
import { fitLine, kinds, memory, messageTime, stepTime, synchronizationTime, ways } from "../../bench/scaling/model.js";
import { resnet50Channels } from "../../bench/scaling/predict.js";
import { fillPage } from "../../bench/scaling/tables.js";

const doc = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");

/** Bytes that a rank of `ranks` sends until all have everything: in round k with the rank 2^k away, all that it has by then. */
function gatherByDoubling(bytes: number, ranks: number): { steps: number; bytes: number } {
  let had = Array.from({ length: ranks }, (_, r) => new Set([r]));
  let [steps, sent] = [0, 0];
  for (let far = 1; far < ranks; far *= 2) {
    sent += had[0]!.size * bytes;
    had = had.map((own, r) => new Set([...own, ...had[r ^ far]!]));
    steps += 1;
  }
  expect(had.every((own) => own.size === ranks)).toBe(true);
  return { steps, bytes: sent };
}

describe("the ways of messages", () => {
  test.each([2, 4, 8, 64])("%d ranks: steps and bytes are those of the exchange, played through", (ranks) => {
    expect(ways["gather by doubling"](24, ranks)).toMatchObject(gatherByDoubling(24, ranks));
    // Halving: each round sends half of what the rank still has; doubling sends the same back.
    let [left, sent] = [4096, 0];
    for (let far = 1; far < ranks; far *= 2) {
      left /= 2;
      sent += left;
    }
    expect(ways["sum by halving and doubling"](4096, ranks).bytes).toBe(2 * sent);
    // A part to each of the others, and after that ranks - 1 parts round the ring.
    const part = 4096 / ranks;
    expect(ways["parts to all, then ring"](4096, ranks)).toEqual({
      ...{ steps: ranks, messages: 2 * (ranks - 1) },
      bytes: (ranks - 1) * part + (ranks - 1) * part,
    });
  });

  test("a rank of two sends as many bytes as it has, so that a fit to two ranks is by those", () => {
    for (const of of Object.values(ways)) expect(of(1000, 2).bytes).toBe(1000);
  });

  test("ResNet-50 has 53 normalizations with 26,560 channels", () => {
    expect(resnet50Channels.length).toBe(53);
    expect(resnet50Channels.reduce((sum, c) => sum + c, 0)).toBe(26_560);
  });
});

describe("the fit", () => {
  const line = (call: number, perByte: number, bytes: number) => ({ bytes, seconds: call + perByte * bytes });

  test("finds the line that points lie on", () => {
    const found = fitLine([4, 100, 5000, 1e6].map((n) => line(3e-6, 2e-10, n)));
    expect(found.call / 3e-6).toBeCloseTo(1, 9);
    expect(found.perByte / 2e-10).toBeCloseTo(1, 9);
  });

  test("weighs errors by what was measured: no other line has a smaller sum of squared relative errors", () => {
    const noise = [1.2, 0.9, 1.1, 0.8, 1.05];
    const points = [8, 512, 30_000, 1e6, 2e7].map((n, i) => ({ bytes: n, seconds: noise[i]! * (4e-6 + n * 3e-10) }));
    const cost = (call: number, perByte: number) =>
      points.reduce((sum, p) => sum + ((call + perByte * p.bytes) / p.seconds - 1) ** 2, 0);
    const { call, perByte } = fitLine(points);
    for (const [a, b] of [
      [1.001, 1],
      [0.999, 1],
      [1, 1.001],
      [1, 0.999],
    ] as const)
      expect(cost(call * a, perByte * b)).toBeGreaterThan(cost(call, perByte));
  });

  test("costs are never below nothing", () => {
    expect(fitLine([line(5e-6, -1e-12, 10), line(5e-6, -1e-12, 1e6)]).perByte).toBe(0);
    expect(fitLine([line(-1e-7, 1e-9, 1e3), line(-1e-7, 1e-9, 1e6)]).call).toBe(0);
  });
});

describe("predictions", () => {
  const lines = Object.fromEntries(
    ["ordered, whole", "ordered, in parts", "library, small", "library, large", "gather"].map((name) => [
      name,
      { call: 1e-6, perByte: 1e-9 },
    ]),
  );
  const network = { name: "", latency: 1e-3, perMessage: 1e-4, bytesPerSecond: 1e8 };
  const on = { lines, network };

  test("a message costs its call, its bytes, and what the network adds", () => {
    // 8 ranks, 8,000 bytes: 3 exchanges of doubling, 56,000 bytes sent.
    expect(messageTime("gather", 8000, 8, on)).toBeCloseTo(1e-6 + 56e-6 + 3e-3 + 3e-4 + 56e-5, 12);
    // In parts: 8 waits, 14 messages, 2 * 7 / 8 of the bytes.
    expect(messageTime("ordered", 80_000, 8, on)).toBeCloseTo(1e-6 + 14e-5 + 8e-3 + 14e-4 + 14e-4, 12);
    expect(messageTime("ordered", 80_000, 1, on)).toBe(0);
    expect(messageTime("ordered", 4000, 2, { lines, network: memory })).toBeCloseTo(5e-6, 12);
    expect(kinds.ordered(1 << 15).line).toBe("ordered, whole");
    expect(kinds.ordered((1 << 15) + 1).line).toBe("ordered, in parts");
  });

  test("a step is computing, what of the gradients is not hidden, and synchronization", () => {
    const model = { compute: 1, parameters: 25_000_000, channels: [64, 128] };
    const gradients = messageTime("ordered", 1e8, 4, on);
    const synchronization = synchronizationTime(64, 4, on) + synchronizationTime(128, 4, on);
    expect(stepTime(model, 4, on).seconds).toBeCloseTo(1 + gradients + synchronization, 12);
    // 95 buckets of 1 MiB, and what is left of 100 MB.
    const buckets = 95 * messageTime("ordered", 1 << 20, 4, on) + messageTime("ordered", 1e8 - 95 * 2 ** 20, 4, on);
    expect(stepTime(model, 4, { ...on, hidden: 0.5 }).exposed).toBeCloseTo(buckets - 0.5, 12);
    // What comes last has nothing left to hide behind.
    const last = messageTime("ordered", 1 << 20, 4, on);
    expect(stepTime({ ...model, compute: 100 }, 4, { ...on, hidden: 0.5 }).exposed).toBeCloseTo(last, 12);
    const within = { lines, network: memory, ranks: 2 };
    const near = synchronizationTime(64, 2, within) + synchronizationTime(128, 2, within);
    expect(stepTime(model, 4, { ...on, statistics: within }).synchronization).toBeCloseTo(near, 12);
  });

  test("docs/scaling.md and its charts are what the model gives for the measurements beside them", () => {
    const measured = JSON.parse(doc("scaling_measured.json"));
    const page = doc("scaling.md");
    expect(page, "run node bench/scaling/write_docs.js").toBe(fillPage(page, measured));
    expect(doc("scaling_messages.svg")).toBe(messagesChart(measured));
    expect(doc("scaling_efficiency.svg")).toBe(efficiencyChart(measured));
  });
});
