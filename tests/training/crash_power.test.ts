import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Random } from "../../src/base/random.js";
import { type FileSystem, readWhole, removeLeftovers } from "../../src/io/files/atomic_file.js";
import { readState, writeState } from "../../src/train/checkpoint/checkpoint.js";
import { newestWhole } from "../../src/train/checkpoint/find_checkpoint.js";
import { damageOf } from "../../src/train/checkpoint/format.js";
import { keepCheckpoint } from "../../src/train/checkpoint/kept.js";
import { LosingDisk, PowerLoss } from "./crash/losing_disk.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const weights = (step: number): Float32Array => Float32Array.from({ length: 7 }, (_, i) => step + i / 8);

function save(path: string, step: number, keep: number, files?: FileSystem): void {
  writeState(path, { step, weights: weights(step) }, files);
  keepCheckpoint(path, step, keep, files);
}

const STEPS = [10, 20, 30];

/** Saves until the power goes after `calls` calls; the last step whose save returned, and the calls that were made. */
function saveUntilDark(path: string, keep: number, disk: LosingDisk): number {
  let [saved, step] = [0, 0];
  try {
    for (step of STEPS) {
      writeState(path, { step, weights: weights(step) }, disk.files);
      if (disk.lost) break;
      saved = step;
      keepCheckpoint(path, step, keep, disk.files);
    }
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    expect(cause).toBeInstanceOf(PowerLoss);
  }
  return saved;
}

describe("a power cut", () => {
  it.each([1, 2])("after any call leaves the checkpoint before or the new one (keep %i)", (keep) => {
    const random = new Random(keep);
    let cases = 0;
    for (let calls = 1; ; calls++) {
      const place = join(folder, `${calls}`);
      mkdirSync(place);
      const disk = new LosingDisk(place, calls);
      const saved = saveUntilDark(join(place, "a.evk"), keep, disk);
      for (let chance = 0; chance < 5; chance++, cases++) {
        const after = join(folder, `${calls}-${chance}`);
        disk.survivors(after, () => random.uniform());
        const path = join(after, "a.evk");
        const found = newestWhole(path);
        const next = STEPS[STEPS.indexOf(saved) + 1] ?? saved;
        const label = `${calls} calls, chance ${chance}: ${readdirSync(after)}`;
        if (saved === 0 && found === null) continue;
        expect([saved, next], label).toContain(found?.step);
        expect(found!.skipped, label).toEqual([]);
        const state = readState(found!.path);
        expect(state.weights, label).toEqual(weights(found!.step!));
        // Two whole ones in files of their own, from the second save on.
        const others = readdirSync(after)
          .filter((name) => name.endsWith(".evk"))
          .map((name) => readWhole(join(after, name), "x"))
          .filter((bytes) => damageOf(bytes, "x") === null);
        const steps = new Set(
          others.map(
            (bytes) =>
              Buffer.from(bytes)
                .toString("latin1")
                .match(/"step":(\d+)/)?.[1],
          ),
        );
        if (keep > 1 && saved >= 20) expect(steps.size, label).toBeGreaterThanOrEqual(2);
        // The next process goes on there; once is enough, since it waits for a real disk.
        if (chance > 0) continue;
        removeLeftovers(after, (name) => name.startsWith("a"));
        save(path, 50, keep);
        expect(newestWhole(path)?.step, label).toBe(50);
        expect(
          readdirSync(after).filter((name) => name.startsWith(".")),
          label,
        ).toEqual([]);
      }
      if (!disk.lost) break;
    }
    expect(cases).toBeGreaterThan(100);
  });
});
