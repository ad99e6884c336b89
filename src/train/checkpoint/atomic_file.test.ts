import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FileError } from "../../base/errors.js";
import { type FileSystem, nodeFiles, writeAtomically } from "../../io/files/atomic_file.js";
import { keepCheckpoint } from "./kept.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const pieces = [Buffer.from("new "), Buffer.from("contents")];
const failing = (code: string): never => {
  throw Object.assign(new Error(code), { code });
};

describe("writeAtomically", () => {
  it("writes, replaces, and leaves nothing else behind", () => {
    const path = join(folder, "a.evk");
    writeFileSync(path, "old and much longer than the new one");
    expect(writeAtomically(path, pieces)).toBe(12);
    expect(readFileSync(path, "utf8")).toBe("new contents");
    expect(readdirSync(folder)).toEqual(["a.evk"]);
  });

  it("goes on after a short write", () => {
    const path = join(folder, "a.evk");
    const slow: FileSystem = { ...nodeFiles, write: (f, bytes) => nodeFiles.write(f, bytes.subarray(0, 3)) };
    writeAtomically(path, pieces, slow);
    expect(readFileSync(path, "utf8")).toBe("new contents");
  });

  const faults: [string, Partial<FileSystem>, RegExp][] = [
    ["open", { open: (p, flags) => (flags === "w" ? failing("EACCES") : nodeFiles.open(p, flags)) }, /permission/],
    ["write", { write: () => failing("ENOSPC") }, /no space left.*Make room/],
    ["a write of nothing", { write: () => 0 }, /device failed/],
    ["fsync", { fsync: () => failing("EIO") }, /device failed/],
    [
      "close",
      {
        close: (f) => {
          nodeFiles.close(f);
          failing("EDQUOT");
        },
      },
      /quota/,
    ],
    ["rename", { rename: () => failing("EROFS") }, /read-only/],
  ];
  for (const [name, fault, message] of faults) {
    it(`keeps the old file when ${name} fails`, () => {
      const path = join(folder, "a.evk");
      writeFileSync(path, "old");
      let error: unknown;
      try {
        writeAtomically(path, pieces, { ...nodeFiles, ...fault });
      } catch (e) {
        error = e;
      }
      expect(error).toBeInstanceOf(FileError);
      expect((error as Error).message).toMatch(message);
      expect(readFileSync(path, "utf8")).toBe("old");
      expect(readdirSync(folder)).toEqual(["a.evk"]);
    });
  }

  it("keeps the old file when a write fails half way", () => {
    const path = join(folder, "a.evk");
    writeFileSync(path, "old");
    let room = 7;
    const small: FileSystem = {
      ...nodeFiles,
      write(f, bytes) {
        if (room === 0) failing("ENOSPC");
        const n = nodeFiles.write(f, bytes.subarray(0, room));
        room -= n;
        return n;
      },
    };
    expect(() => writeAtomically(path, pieces, small)).toThrow(/no space left/);
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["a.evk"]);
  });

  it("says what is wrong with a path", () => {
    expect(() => writeAtomically(join(folder, "none", "a.evk"), pieces)).toThrow(/no such folder.*Create the folder/);
    expect(() => writeAtomically(folder, pieces)).toThrow(FileError);
  });

  it("survives a disk that is really full", ({ skip }) => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      skip("mounting needs root");
    }
    try {
      const path = join(disk, "a.evk");
      writeAtomically(path, [Buffer.alloc(100_000, 1)]);
      expect(() => writeAtomically(path, [Buffer.alloc(100_000, 2), Buffer.alloc(100_000, 3)])).toThrow(
        /no space left/,
      );
      expect(readFileSync(path)).toEqual(Buffer.alloc(100_000, 1));
      expect(readdirSync(disk)).toEqual(["a.evk"]);
    } finally {
      execFileSync("umount", [disk]);
    }
  });
});

describe("keepCheckpoint", () => {
  const save = (step: number, keep: number, files: FileSystem = nodeFiles) => {
    const path = join(folder, "model.evk");
    writeAtomically(path, [Buffer.from(String(step))], files);
    keepCheckpoint(path, step, keep, files);
  };

  it("keeps the newest ones under their steps, in order of number", () => {
    for (const step of [8, 9, 10, 11]) save(step, 3);
    expect(readdirSync(folder).sort()).toEqual([
      "model-step10.evk",
      "model-step11.evk",
      "model-step9.evk",
      "model.evk",
    ]);
    expect(readFileSync(join(folder, "model-step9.evk"), "utf8")).toBe("9");
    expect(readFileSync(join(folder, "model.evk"), "utf8")).toBe("11");
  });

  it("keeps one file with keep = 1, and leaves other files alone", () => {
    writeFileSync(join(folder, "model-stepx.evk"), "");
    for (const step of [1, 2]) save(step, 1);
    save(3, 2);
    expect(readdirSync(folder).sort()).toEqual(["model-step3.evk", "model-stepx.evk", "model.evk"]);
  });

  it("copies where links do not exist", () => {
    const files: FileSystem = { ...nodeFiles, link: () => failing("EPERM") };
    for (const step of [1, 2, 3]) save(step, 2, files);
    expect(readdirSync(folder).sort()).toEqual(["model-step2.evk", "model-step3.evk", "model.evk"]);
    expect(readFileSync(join(folder, "model-step2.evk"), "utf8")).toBe("2");
  });
});
