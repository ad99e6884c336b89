import { expect, test } from "vitest";
import * as batchSizeStudy from "../../examples/batch_size_study.js";
import * as checkpointedRun from "../../examples/checkpointed_run.js";
import * as digitsByHand from "../../examples/digits_by_hand.js";
import * as gradientPenalty from "../../examples/gradient_penalty.js";
import * as ownLayer from "../../examples/own_layer.js";
import * as tfjsDigits from "../../examples/tfjs_digits.js";

test("examples/digits_by_hand.js reads more than 95 % of the test digits after 3 epochs", () => {
  const lines: string[] = [];
  expect(digitsByHand.main({ epochs: 3, log: (line: string) => lines.push(line) })).toBeGreaterThan(0.95);
  expect(lines).toHaveLength(4);
});

test("examples/own_layer.js", () => {
  expect(ownLayer.main({ log: () => {} })).toEqual({
    names: ["0.weight", "0.bias", "1.gain", "1.typical_size", "2.weight", "2.bias"],
    gradientShape: [5, 3],
    difference: 0,
  });
});

test("examples/checkpointed_run.js ends with the same bits in one go and in two", async () => {
  const { whole, first, rest } = await checkpointedRun.main({ log: () => {} });
  expect(first.steps).toBe(37);
  expect(rest.steps).toBe(whole.steps);
  expect(rest.lossHash).toBe(whole.lossHash);
  expect(rest.testAccuracy).toBe(whole.testAccuracy);
  expect(whole.testAccuracy).toBeGreaterThan(0.9);
});

test("examples/batch_size_study.js: batches of two are too few for statistics over the batch alone", async () => {
  const lines: string[] = [];
  const log = (line: string) => lines.push(line);
  const { batch, group } = await batchSizeStudy.main({ sizes: [32, 2], seeds: 1, epochs: 1, log });
  expect(lines).toHaveLength(4);
  expect(group[2]! - batch[2]!).toBeGreaterThan(5);
  expect(Math.abs(group[32]! - batch[32]!)).toBeLessThan(5);
});

test("examples/gradient_penalty.js: with the penalty the critic's slope nears 1, without it it runs away", () => {
  const lines: string[] = [];
  const { held, free } = gradientPenalty.main({ steps: 120, log: (line: string) => lines.push(line) });
  expect(lines).toHaveLength(4);
  expect(held.first).toEqual(free.first);
  expect(held.last.penalty).toBeLessThan(held.first.penalty / 3);
  expect(Math.abs(held.last.slope - 1)).toBeLessThan(0.05);
  expect(free.last.slope).toBeGreaterThan(5);
});

test("examples/tfjs_digits.js reads more than 95 % of the test digits after 4 epochs, and as many when saved and read", async () => {
  const lines: string[] = [];
  const { trained, read } = await tfjsDigits.main({ epochs: 4, log: (line: string) => lines.push(line) });
  expect(trained).toBeGreaterThan(0.95);
  expect(read).toBe(trained);
  expect(lines).toHaveLength(5);
});
