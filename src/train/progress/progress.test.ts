import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import type { TrainingEvent } from "../../base/events.js";
import { barLine, type ProgressState, plainLine } from "./line.js";
import { Progress } from "./progress.js";

const state: ProgressState = {
  name: "instance",
  epoch: 3,
  epochs: 10,
  step: 123,
  totalSteps: 450,
  loss: 0.12345,
  accuracy: 0.978,
  stepsPerSecond: 150.2,
};

describe("progress line", () => {
  it("never passes the width, at any width and any state", () => {
    const early = { ...state, step: 0, loss: null, accuracy: null, stepsPerSecond: null };
    const long = {
      ...state,
      device: "webgpu",
      name: "a name that is much longer than it should be",
      totalSteps: 12345678,
      loss: 1e-9,
    };
    for (const s of [state, early, long, { ...state, step: 450 }]) {
      for (let width = 0; width <= 200; width++) {
        for (const unicode of [true, false]) expect(barLine(s, width, unicode).length).toBeLessThanOrEqual(width);
      }
    }
  });

  it("keeps what matters most in 40 columns", () => {
    const line = barLine(state, 39, true);
    expect(line).toContain("3/10");
    expect(line).toContain("27%");
    expect(line).toContain("loss 0.1235");
    expect(line).not.toContain("steps/s");
    expect(barLine(state, 120, true)).toMatch(
      /^instance {2}3\/10 {2}━+┄+ {2}27% {2}123\/450 {2}loss 0\.1235 {2}acc 97\.8% {2}150 steps\/s {2}ETA 0:02$/,
    );
  });

  it("names a device that is not the CPU", () => {
    const on = (device: string) => ({ ...state, device });
    expect(plainLine(on("webgpu"))).toMatch(/^instance on webgpu: {2}epoch 3/);
    expect(barLine(on("webgpu"), 120, true)).toMatch(/^instance {2}webgpu {2}3\/10 {2}━/);
    expect(barLine(on("webgpu"), 39, true)).not.toContain("webgpu");
    expect(barLine(on("cpu"), 120, true)).toBe(barLine(state, 120, true));
  });

  it("fills the bar from none to all", () => {
    const bar = (step: number, unicode: boolean) => barLine({ ...state, step }, 120, unicode);
    expect(bar(0, true)).toContain("┄".repeat(30));
    expect(bar(450, true)).not.toContain("┄");
    expect(bar(450, false)).toMatch(/\[#+\]/);
    expect(bar(0, false)).toMatch(/\[\.+\]/);
  });

  it("is plain text without a terminal", () => {
    expect(plainLine(state)).toBe(
      "instance:  epoch 3/10  step 123/450  loss 0.1235  accuracy 97.8%  150 steps/s  ETA 0:02",
    );
  });
});

describe("Progress", () => {
  const events: TrainingEvent[] = [
    { type: "runStart", name: "x", time: "", epochs: 1, stepsPerEpoch: 3, step: 0, parameters: 1, settings: {} },
    { type: "step", step: 1, epoch: 1, loss: 2, lr: 0.1, gradNorm: null },
    { type: "step", step: 2, epoch: 1, loss: 1, lr: 0.1, gradNorm: null },
    { type: "evaluation", step: 3, epoch: 1, loss: 0.5, accuracy: 0.9 },
    {
      type: "runEnd",
      step: 3,
      epoch: 1,
      reason: "finished",
      message: null,
      seconds: 1,
      stepsPerSecond: 3,
      trainLoss: 0.5,
      testLoss: 0.5,
      testAccuracy: 0.9,
      lossHash: null,
    },
  ];
  const output = (everySeconds: number, terminal: boolean) => {
    const stream = Object.assign(new PassThrough(), { isTTY: terminal, columns: 60, rows: 24 });
    const progress = new Progress({ stream: stream as unknown as NodeJS.WriteStream, everySeconds });
    for (const event of events) progress.onEvent(event);
    return String(stream.read() ?? "");
  };

  it("writes one line at each interval and one at the end, without control characters", () => {
    const often = output(0, false).trimEnd().split("\n");
    expect(often).toHaveLength(3);
    expect(often[2]).toMatch(/^x: {2}epoch 1\/1 {2}step 3\/3 {2}loss 0\.5000 {2}accuracy 90\.0%/);
    expect(output(60, false).trimEnd().split("\n")).toHaveLength(1);
    expect(output(0, false)).toMatch(/^[\x20-\x7e\n]*$/);
  });

  it("redraws on a terminal and ends on a line of its own", () => {
    const text = output(10, true);
    expect(text).toContain("\u001b[");
    expect(text).toContain("100%");
    expect(text.replaceAll("\u001b[?2026l", "").endsWith("\n")).toBe(true);
  });
});
