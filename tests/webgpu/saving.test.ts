import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DeviceError } from "../../src/base/errors.js";
import { DataLoader, digits } from "../../src/data/index.js";
import { manualSeed, nn, optim, randn, scope, type Tensor } from "../../src/index.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import type { DeviceName } from "../../src/memory/device.js";
import { EventLog, loadCheckpoint, saveCheckpoint, saveCheckpointAsync, Trainer } from "../../src/train/index.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

let folder: string;
let count = 0;
const freshPath = () => join(folder, `${count++}.evk`);

function parts(device: DeviceName, seed = 1) {
  manualSeed(seed);
  const model = new nn.Sequential(
    ...[new nn.Flatten(), new nn.Linear(64, 24), new nn.BatchNorm1d(24), new nn.ReLU(), new nn.Linear(24, 10)],
  ).to(device);
  return { model, optimizer: new optim.AdamW(model.parameters(), { lr: 0.01 }) };
}

/** Steps with batches that follow from `seed`; the losses. */
async function steps({ model, optimizer }: ReturnType<typeof parts>, n: number, seed: number): Promise<number[]> {
  manualSeed(seed);
  const losses: Tensor[] = [];
  for (let i = 0; i < n; i++) {
    losses.push(
      scope(() => {
        optimizer.zeroGrad();
        const loss = model
          .forward(randn([8, 64]).to(model.device))
          .square()
          .mean();
        loss.backward();
        optimizer.step();
        return loss.detach();
      }),
    );
  }
  return Promise.all(losses.map(async (t) => (await t.data())[0]!));
}

const numbersOf = async (state: Readonly<Record<string, Tensor>>) =>
  Object.fromEntries(await Promise.all(Object.entries(state).map(async ([name, t]) => [name, [...(await t.data())]])));
const tensorsOf = (state: optim.OptimizerState) =>
  Object.fromEntries(
    Object.entries(state.parameters).flatMap(([i, { tensors }]) =>
      Object.entries(tensors).map(([name, t]) => [`${i} ${name}`, t]),
    ),
  );

describe.skipIf(noWebGPU !== null)(`saving from webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "evenkeel-saving-"));
    await initWebGPU();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("states are what they were when they were asked for, on the CPU", async () => {
    const on = parts("webgpu");
    await steps(on, 2, 5);
    const before = await numbersOf(on.model.stateDict());
    const { reads, submits } = theGpu().counts;
    const asked = on.model.stateDictAsync();
    const optimizerAsked = on.optimizer.stateDictAsync();
    const momentsBefore = numbersOf(tensorsOf(on.optimizer.stateDict()));
    expect(theGpu().counts.reads - reads).toBeGreaterThan(20);
    // Ahead of the reading in JavaScript, behind it on the device.
    await steps(on, 1, 6);
    const state = await asked;
    expect(theGpu().counts.submits - submits).toBeLessThanOrEqual(6);
    expect(await numbersOf(state)).toEqual(before);
    expect(await numbersOf(on.model.stateDict())).not.toEqual(before);
    for (const t of Object.values(state)) expect(t.device).toBe("cpu");
    const saved = await optimizerAsked;
    expect(await numbersOf(tensorsOf(saved))).toEqual(await momentsBefore);
    expect(saved.parameters["0"]!.numbers).toEqual(saved.parameters["1"]!.numbers);
  });

  test("a state goes to where the module is", async () => {
    const [from, to, cpu] = [parts("webgpu", 1).model, parts("webgpu", 2).model, parts("cpu", 3).model];
    const want = await numbersOf(from.stateDict());
    to.loadStateDict(from.stateDict());
    expect(await numbersOf(to.stateDict())).toEqual(want);
    expect(() => cpu.loadStateDict(from.stateDict())).toThrow(/on cpu; got float32 on webgpu\. .*stateDictAsync/);
    cpu.loadStateDict(await from.stateDictAsync());
    expect(await numbersOf(cpu.stateDict())).toEqual(want);
    const other = parts("webgpu", 4).model;
    other.loadStateDict(cpu.stateDict());
    expect([other.device, await numbersOf(other.stateDict())]).toEqual(["webgpu", want]);
  });

  test("checkpoints by hand: at once only on the CPU; awaited from any device, loaded on any", async () => {
    const on = parts("webgpu");
    await steps(on, 3, 5);
    const path = freshPath();
    expect(() => saveCheckpoint(path, on)).toThrow(DeviceError);
    expect(() => saveCheckpoint(path, on)).toThrow(/model\/.*weight on webgpu.*await saveCheckpointAsync/);
    const saved = saveCheckpointAsync(path, { ...on, extra: { note: 7 } });
    const undisturbed = await steps(on, 3, 9);
    await saved;
    const again = parts("webgpu", 2);
    expect(loadCheckpoint(path, again)).toEqual({ note: 7 });
    expect(await steps(again, 3, 9)).toEqual(undisturbed);
    const cpu = parts("cpu", 2);
    loadCheckpoint(path, cpu);
    // Another order of sums, and Adam divides by small numbers.
    for (const [i, loss] of (await steps(cpu, 3, 9)).entries()) expect(loss).toBeCloseTo(undisturbed[i]!, 3);
  });

  const { train, test: held } = digits();
  const some = (n: number) => Array.from({ length: n }, (_, i) => i);
  const few = train.subset(some(320));
  function trainer(path: string, epochs: number, stopAfter = Number.POSITIVE_INFINITY, on = parts("webgpu")) {
    const log = new EventLog("run");
    const made = new Trainer({
      ...on,
      loss: new nn.CrossEntropyLoss(),
      train: new DataLoader(few, { batchSize: 32, shuffle: true, seed: 3 }),
      test: new DataLoader(held.subset(some(60)), { batchSize: 60 }),
      ...{ epochs, clipNorm: 1, normStatisticsEverySteps: 7, signals: "ignore" as const },
      callbacks: [log, { onStep: ({ step }, t) => (step === stopAfter ? t.stop() : undefined) }],
      checkpoint: { path, everySteps: 4 },
    });
    const losses = () => log.events.flatMap((e) => (e.type === "step" ? [e.loss] : []));
    return { trainer: made, log, losses, ...on };
  }

  test("the Trainer saves and resumes on the device with the same losses", async () => {
    const whole = trainer(freshPath(), 2);
    const result = await whole.trainer.fit();
    expect(result.steps).toBe(20);
    const statistics = whole.log.events.find((e) => e.type === "normStatistics")!;
    expect(statistics).toMatchObject({ step: 1, layers: [{ layer: "2", kind: "batch", gamma: { min: 1, max: 1 } }] });

    const path = freshPath();
    const first = trainer(path, 2, 11);
    expect((await first.trainer.fit()).reason).toBe("stopped");
    expect(first.log.events.flatMap((e) => (e.type === "checkpoint" ? [e.step] : []))).toEqual([4, 8, 11]);
    const second = trainer(path, 2, undefined, parts("webgpu", 99));
    second.trainer.resume(path);
    await second.trainer.fit();
    // The same shaders on the same numbers; another device may differ in its last bits.
    expect([...first.losses(), ...second.losses()]).toEqual(whole.losses());
    const end = await numbersOf(whole.model.stateDict());
    expect(await numbersOf(second.model.stateDict())).toEqual(end);
    for (const p of second.model.parameters()) expect(p.device).toBe("webgpu");
  });

  test("a checkpoint that does not fit leaves a model on the device as it was", async () => {
    const path = freshPath();
    const run = trainer(path, 1, 4);
    await run.trainer.fit();
    const on = parts("webgpu", 5);
    const odd = trainer(path, 1, 4, { ...on, optimizer: new optim.AdamW(on.model.parameters().slice(1)) });
    const before = await numbersOf(on.model.stateDict());
    expect(() => odd.trainer.resume(path)).toThrow(/groups of/);
    expect(await numbersOf(on.model.stateDict())).toEqual(before);
  });

  test("a device lost in the middle ends training by a typed error; the last checkpoint is whole", async () => {
    const path = freshPath();
    const run = trainer(path, 2);
    const lose = { onStep: ({ step }: { step: number }) => step === 6 && theGpu().device.destroy() };
    (run.trainer as unknown as { callbacks: unknown[] }).callbacks.push(lose);
    const error = await run.trainer.fit().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DeviceError);
    expect(run.log.events.at(-1)).toMatchObject({
      type: "runEnd",
      reason: "failed",
      message: expect.stringMatching(/lost/),
    });
    const bytes = readFileSync(path);

    await initWebGPU();
    const on = parts("webgpu");
    const saving = saveCheckpointAsync(path, on);
    theGpu().device.destroy();
    await expect(saving).rejects.toThrow(DeviceError);
    expect(readFileSync(path).equals(bytes)).toBe(true);

    await initWebGPU();
    const again = trainer(path, 2, undefined, parts("webgpu", 7));
    again.trainer.resume(path);
    expect(again.trainer.step).toBe(4);
    const result = await again.trainer.fit();
    expect([result.steps, again.losses().length]).toEqual([20, 16]);
  });
});
