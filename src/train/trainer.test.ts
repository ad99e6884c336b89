import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { data, loss, parts, SmallNet } from "../../tests/training/small_run.js";
import { FileError, FormatError, NonFiniteError, OptionError } from "../base/errors.js";
import { DataLoader } from "../data/browser.js";
import { nodeFiles } from "../io/files/atomic_file.js";
import { heap } from "../memory/heap.js";
import { BatchNorm1d, Linear, type Module, Sequential } from "../nn/index.js";
import { SGD } from "../optim/index.js";
import { EventLog, loadCheckpoint, saveCheckpoint, summarise, Trainer } from "./index.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const quiet = { signals: "ignore" as const };

/** Loss bits of each step, from an event log. */
const bits = (log: EventLog): number[] =>
  log.events.flatMap((e) => (e.type === "step" ? [new Uint32Array(new Float32Array([e.loss]).buffer)[0]!] : []));

/** A callback that stops after a step, and one that stops at the end of an epoch. */
const stopAfter = (step: number) => ({
  onStep: (e: { step: number }, trainer: { stop(): void }) => (e.step === step ? trainer.stop() : undefined),
});

describe("Trainer", () => {
  it("trains, and reports what it did as plain data", async () => {
    const log = new EventLog("small");
    const result = await new Trainer({ ...parts(), ...quiet, seed: 3, callbacks: [log], name: "small" }).fit();
    expect(result.reason).toBe("finished");
    expect(result.steps).toBe(33);
    expect(result.testAccuracy).toBeGreaterThan(0.85);
    expect(result.stepsPerSecond).toBeGreaterThan(0);
    const types = log.events.map((e) => e.type);
    expect(types[0]).toBe("runStart");
    expect(types.at(-1)).toBe("runEnd");
    expect(types.filter((t) => t === "step")).toHaveLength(33);
    expect(types.filter((t) => t === "evaluation")).toHaveLength(3);
    expect(types.filter((t) => t === "epochEnd")).toHaveLength(3);
    expect(JSON.parse(JSON.stringify(log.events))).toEqual(log.events);
    const losses = log.events.flatMap((e) => (e.type === "step" ? [e.loss] : []));
    const hash = createHash("sha256")
      .update(new Uint8Array(Float32Array.from(losses).buffer))
      .digest("hex");
    expect(result.lossHash).toBe(hash);
    const lastEpoch = losses.slice(22).reduce((a, b) => a + b, 0) / 11;
    expect(result.trainLoss).toBeCloseTo(lastEpoch, 12);
    expect(summarise(log)).toMatchObject({ testAccuracy: result.testAccuracy, steps: 33, lossHash: hash });
  });

  it("gives equal bits for equal seeds and other bits for another", async () => {
    const run = async (seed: number) => (await new Trainer({ ...parts(8, 1), ...quiet, seed }).fit()).lossHash;
    expect(await run(3)).toBe(await run(3));
    expect(await run(3)).not.toBe(await run(4));
  });

  it("does not fill the heap", async () => {
    const p = parts();
    const alive: number[] = [];
    const look = { onStep: () => void alive.push(heap.stats.liveBytes) };
    await new Trainer({ ...p, ...quiet, epochs: 5, callbacks: [look] }).fit();
    // From the second step on the optimizer's state is there; the smaller last batch leaves nothing behind either.
    // Garbage of earlier tests may be collected meanwhile, so less is possible, but never more.
    const risen = alive.filter((bytes, i) => i > 1 && bytes > alive[i - 1]!);
    expect(risen).toEqual([]);
  });

  it("lets timers run while it trains", async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await new Trainer({ ...parts(64), ...quiet, epochs: 20 }).fit();
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(0);
  });

  it("evaluates on the way, without moving the run", async () => {
    const run = async (evaluateEverySteps?: number) => {
      const log = new EventLog("x");
      const result = await new Trainer({
        ...parts(),
        ...quiet,
        seed: 1,
        callbacks: [log],
        ...(evaluateEverySteps ? { evaluateEverySteps } : {}),
      }).fit();
      return { result, steps: log.events.flatMap((e) => (e.type === "evaluation" ? [e.step] : [])) };
    };
    const often = await run(5);
    const seldom = await run();
    expect(often.steps).toEqual([5, 10, 11, 15, 20, 22, 25, 30, 33]);
    expect(often.result.lossHash).toBe(seldom.result.lossHash);
    expect(often.result.testLoss).toBe(seldom.result.testLoss);
  });

  it("gives modules their own mode back after evaluation", async () => {
    const trainer = new Trainer({ ...parts(), ...quiet });
    const { model } = parts();
    model.eval();
    await new Trainer({ ...parts(), ...quiet, model, optimizer: new SGD(model.parameters()) }).evaluate();
    expect(model.training).toBe(false);
    const { samples, accuracy } = await trainer.evaluate();
    expect(samples).toBe(40);
    expect((accuracy! * 40) % 1).toBeCloseTo(0, 9);
  });

  it("stops early when nothing improves", async () => {
    const p = parts();
    const optimizer = new SGD(p.model.parameters(), { lr: 0 });
    const run = (minDelta: number, patience: number) =>
      new Trainer({
        ...{ model: p.model, optimizer, loss, train: p.train, test: p.test, epochs: 9, ...quiet },
        earlyStopping: { monitor: "testAccuracy", patience, minDelta },
      }).fit();
    expect(await run(0, 2)).toMatchObject({ reason: "earlyStopping", steps: 33 });
    expect(await run(0, 1)).toMatchObject({ reason: "earlyStopping", steps: 22 });
  });

  it("stops with the step's number when the loss is not finite, before parameters move", async () => {
    const p = parts();
    const log = new EventLog("x");
    let calls = 0;
    const broken = (output: Parameters<typeof loss>[0], y: Parameters<typeof loss>[1]) =>
      ++calls === 5 ? loss(output, y).mul(Number.NaN) : loss(output, y);
    const path = join(folder, "a.evk");
    const trainer = new Trainer({
      ...p,
      ...quiet,
      loss: broken,
      callbacks: [log],
      checkpoint: { path, everySteps: 1 },
    });
    await expect(trainer.fit()).rejects.toThrow(/loss must be a finite number at every step; got NaN at step 5/);
    expect(log.events.at(-1)).toMatchObject({ type: "runEnd", reason: "failed", step: 4 });
    const after = p.model.first.dataSync();
    expect(after.every(Number.isFinite)).toBe(true);
    loadCheckpoint(path, { model: p.model });
    expect(p.model.first.dataSync()).toEqual(after);
    const exploding = new Trainer({
      ...parts(),
      ...quiet,
      loss: (output, y) => loss(output, y).add(output.sub(output).sqrt().mean().mul(1e-30)),
    });
    await expect(exploding.fit()).rejects.toThrow(NonFiniteError);
  });

  it("tells up front that batch norm will meet single samples", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const run = async (model: Module, batchSize: number) => {
      const optimizer = new SGD(model.parameters(), { lr: 0.01 });
      const train = new DataLoader(data(12), { batchSize });
      await new Trainer({ model, optimizer, loss, train, epochs: 1, ...quiet }).fit().catch(() => {});
    };
    const normed = () => new Sequential(new Linear(3, 2), new BatchNorm1d(2));
    await run(normed(), 2);
    await run(new Linear(3, 2), 1);
    expect(warn).not.toHaveBeenCalled();
    await run(normed(), 1);
    expect(warn).toHaveBeenCalledOnce();
    expect(warn.mock.calls[0]![0]).toMatch(/batches of one sample meet batch norm in 1:/);
    warn.mockRestore();
  });

  it("hands errors of callbacks on", async () => {
    const callbacks = [
      {
        onStep() {
          throw new Error("mine");
        },
      },
    ];
    await expect(new Trainer({ ...parts(), ...quiet, callbacks }).fit()).rejects.toThrow("mine");
  });

  it("refuses options that do not fit", () => {
    const p = parts();
    const make = (options: object) => () => new Trainer({ ...p, ...quiet, ...options });
    expect(make({ epoch: 3 })).toThrow(/Did you mean "epochs"/);
    expect(make({ epochs: 1.5 })).toThrow(OptionError);
    expect(make({ clipNorm: Number.NaN })).toThrow(OptionError);
    expect(make({ model: {} })).toThrow(/model must be a Module; got Object/);
    expect(make({ train: data(8) })).toThrow(/train must be a DataLoader; got Dataset/);
    expect(make({ earlyStopping: { monitor: "testacuracy" } })).toThrow(/Did you mean "testAccuracy"/);
    expect(make({ test: undefined, earlyStopping: { monitor: "testLoss" } })).toThrow(/has test data/);
    expect(make({ signals: "never" })).toThrow(/"exit", "return" or "ignore"/);
    expect(make({ checkpoint: { path: "x", evrySteps: 1 } })).toThrow(/Did you mean "everySteps"/);
    expect(make({ train: new DataLoader(data(4), { batchSize: 8, dropLast: true }) })).toThrow(/at least one batch/);
  });
});

it("captured, with dropout, clipping, statistics in between and a smaller last batch: the same bits", async () => {
  const run = async (capture: boolean) => {
    const options = { ...parts(), ...quiet, seed: 9, clipNorm: 0.5, normStatisticsEverySteps: 7, capture };
    const log = new EventLog("run");
    const result = await new Trainer({ ...options, callbacks: [log] }).fit();
    return { hash: result.lossHash, testLoss: result.testLoss, bits: bits(log) };
  };
  const live = heap.stats.liveBytes;
  const captured = await run(true);
  expect(heap.stats.liveBytes).toBeLessThanOrEqual(live + 65536);
  expect(captured).toEqual(await run(false));
});

describe("checkpoints", () => {
  const path = () => join(folder, "run.evk");

  const straight = async (): Promise<EventLog> => {
    const log = new EventLog("straight");
    await new Trainer({ ...parts(), ...quiet, seed: 9, callbacks: [log] }).fit();
    return log;
  };

  it.each([1, 13, 22, 32])("go on with the same bits after step %i", async (cut) => {
    const whole = await straight();
    const first = new EventLog("first");
    const stopped = await new Trainer({
      ...{ ...parts(), ...quiet, seed: 9, checkpoint: { path: path() } },
      callbacks: [first, stopAfter(cut)],
    }).fit();
    expect(stopped).toMatchObject({ reason: "stopped", steps: cut });

    const second = new EventLog("second");
    // Other seeds everywhere: everything must come from the file.
    const trainer = new Trainer({ ...parts(8, 77), ...quiet, seed: 55, callbacks: [second] });
    trainer.resume(path());
    const result = await trainer.fit();
    expect([...bits(first), ...bits(second)]).toEqual(bits(whole));
    const end = whole.events.at(-1);
    expect(end?.type === "runEnd" && end).toMatchObject({
      lossHash: result.lossHash,
      testAccuracy: result.testAccuracy,
      testLoss: result.testLoss,
      trainLoss: result.trainLoss,
    });
    expect(second.events[0]).toMatchObject({ type: "runStart", step: cut });
  });

  it("go on in the same process after stop()", async () => {
    const whole = await straight();
    const log = new EventLog("x");
    const trainer = new Trainer({ ...parts(), ...quiet, seed: 9, callbacks: [log, stopAfter(13)] });
    expect((await trainer.fit()).reason).toBe("stopped");
    expect((await trainer.fit()).reason).toBe("finished");
    expect(bits(log)).toEqual(bits(whole));
  });

  it("are written when asked, and kept as many as asked", async () => {
    const log = new EventLog("x");
    const checkpoint = { path: path(), everySteps: 10, keep: 2 };
    await new Trainer({ ...parts(), ...quiet, callbacks: [log], checkpoint }).fit();
    expect(log.events.flatMap((e) => (e.type === "checkpoint" ? [e.step] : []))).toEqual([10, 20, 30, 33]);
    expect(readdirSync(folder).sort()).toEqual(["run-step30.evk", "run-step33.evk", "run.evk"]);
    const before = log.events.length;
    await new Trainer({ ...parts(), ...quiet, callbacks: [log], checkpoint: { path: path() } }).fit();
    const again = log.events.slice(before).flatMap((e) => (e.type === "checkpoint" ? [e.step] : []));
    expect(again).toEqual([11, 22, 33]);
  });

  it("of another model are refused with every name that differs, and the model stays", async () => {
    await new Trainer({ ...parts(8), ...quiet, epochs: 1, checkpoint: { path: path() } }).fit();
    const other = parts(5);
    const before = other.model.first.dataSync();
    const trainer = new Trainer({ ...other, ...quiet });
    expect(() => trainer.resume(path())).toThrow(
      /other shape: first \[8, 3\] for \[5, 3\], first_bias \[8\] for \[5\], second \[2, 8\] for \[2, 5\]/,
    );
    expect(other.model.first.dataSync()).toEqual(before);
  });

  it("of another optimizer leave the model as it was", async () => {
    await new Trainer({ ...parts(8), ...quiet, epochs: 1, checkpoint: { path: path() } }).fit();
    const other = parts(8, 2);
    const optimizer = new SGD([{ params: [other.model.first] }, { params: [other.model.second] }]);
    const before = other.model.first.dataSync();
    expect(() => new Trainer({ ...other, ...quiet, optimizer }).resume(path())).toThrow(FormatError);
    expect(other.model.first.dataSync()).toEqual(before);
  });

  it("of other data are refused", async () => {
    const checkpoint = { path: path(), everySteps: 5 };
    await new Trainer({ ...parts(), ...quiet, checkpoint, callbacks: [stopAfter(5)] }).fit();
    const train = new DataLoader(data(80), { batchSize: 8, shuffle: true });
    expect(() => new Trainer({ ...parts(), ...quiet, train }).resume(path())).toThrow(/84 samples/);
  });

  it("that are missing, cut short or of another kind are refused", async () => {
    const trainer = new Trainer({ ...parts(), ...quiet, epochs: 1, checkpoint: { path: path() } });
    expect(() => trainer.resume(join(folder, "none.evk"))).toThrow(/none\.evk: no such file/);
    await trainer.fit();
    const size = readFileSync(path()).length;
    truncateSync(path(), size - 100);
    expect(() => trainer.resume(path())).toThrow(/cut short or damaged/);
    writeFileSync(path(), "not a checkpoint");
    expect(() => trainer.resume(path())).toThrow(FormatError);
    saveCheckpoint(path(), { model: parts().model });
    expect(() => trainer.resume(path())).toThrow(/step.*missing or wrong/);
  });

  it("leave the old file when the disk is full, and say so", async () => {
    let opened = 0;
    const files = {
      ...nodeFiles,
      open(file: string, flags: "r" | "w") {
        if (flags === "w") opened++;
        return nodeFiles.open(file, flags);
      },
      write(file: number, bytes: Uint8Array) {
        // What is tried at the start and the first checkpoint fit, the others do not.
        if (opened > 2) throw Object.assign(new Error("full"), { code: "ENOSPC" });
        return nodeFiles.write(file, bytes);
      },
    };
    const warnings = vi.spyOn(console, "warn").mockImplementation(() => {});
    const checkpoint = { path: path(), everySteps: 3, files };
    const run = new Trainer({ ...parts(), ...quiet, checkpoint }).fit();
    await expect(run).rejects.toThrow(FileError);
    await expect(run).rejects.toThrow(/no space left on the device/);
    // Said once, and training went on to its end.
    expect(warnings.mock.calls.flat()).toEqual([
      expect.stringMatching(/No checkpoint of step 6: .*no space left.* Training goes on, the next one tries again/),
    ]);
    warnings.mockRestore();
    expect(readdirSync(folder)).toEqual(["run.evk"]);
    const model = new SmallNet();
    expect(() => loadCheckpoint(path(), { model })).not.toThrow();
  });
});

describe("saveCheckpoint and loadCheckpoint", () => {
  it("carry parts and anything extra", () => {
    const path = join(folder, "m.evk");
    const a = parts(8, 1);
    const b = parts(8, 2);
    const extra = { note: "ünï", list: [1, Number.NaN, -0, { deep: new Float64Array([0.1]) }], none: null };
    saveCheckpoint(path, { model: a.model, optimizer: a.optimizer, loader: a.train, extra });
    const back = loadCheckpoint(path, { model: b.model, optimizer: b.optimizer, loader: b.train });
    expect(back).toEqual(extra);
    expect(b.model.second.dataSync()).toEqual(a.model.second.dataSync());
    expect(b.train.state).toEqual(a.train.state);
    expect(() => loadCheckpoint(path, { model: b.model, scheduler: b.scheduler })).toThrow(
      /To load the scheduler.*which holds model, optimizer, loader, random, extra/,
    );
  });

  it("refuse what a file cannot hold", () => {
    const path = join(folder, "m.evk");
    const { model } = parts();
    const save = (extra: unknown) => () => saveCheckpoint(path, { model, extra });
    expect(save({ f: () => 1 })).toThrow(/Function\] at extra\/f/);
    expect(save({ a: [new Date(0)] })).toThrow(/Date\] at extra\/a\/0/);
    expect(save({ $tensor: 1 })).toThrow(/the key \$tensor/);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("read a Trainer's file too", async () => {
    const path = join(folder, "m.evk");
    const a = parts(8, 1);
    await new Trainer({ ...a, ...quiet, epochs: 1, checkpoint: { path } }).fit();
    const b = parts(8, 2);
    expect(loadCheckpoint(path, { model: b.model, optimizer: b.optimizer, loader: b.train })).toBeNull();
    expect(b.model.first.dataSync()).toEqual(a.model.first.dataSync());
  });
});
