import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FormatError } from "../../src/base/errors.js";
import { openTensors, saveTensors } from "../../src/io/index.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-formats-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tensors = new Map([
  ["layers/dense/vars/0", { shape: [2, 3], type: "float32", data: Float32Array.of(1, 2, 3, 4, 5, 6.5) } as const],
  ["layers/dense/vars/1", { shape: [3], type: "float32", data: Float32Array.of(-1, 0, 1e-30) } as const],
]);

describe("the ending of a name is the format", () => {
  test.each(["a.safetensors", "A.NPZ", "a.msgpack", "a.weights.h5", "model.json"])("%s", async (name) => {
    const path = join(folder, name);
    await saveTensors(tensors, path);
    const file = await openTensors(path);
    expect([...file.tensors.keys()].sort()).toEqual([...tensors.keys()]);
    for (const [key, { shape, data }] of tensors) expect(await file.read(key)).toMatchObject({ shape, data });
    file.close();
  });

  test("others are refused, with those that there are", async () => {
    await expect((async () => openTensors("model.tar"))()).rejects.toThrow(/end in \.safetensors.*model\.tar/);
    await expect(saveTensors(tensors, join(folder, "model.pt"))).rejects.toThrow(/written end in .*model\.pt/);
  });

  test("Keras gets numbered tensors or none", async () => {
    const named = new Map([["dense/kernel", tensors.get("layers/dense/vars/0")!]]);
    const refused = saveTensors(named, join(folder, "named.weights.h5"));
    await expect(refused).rejects.toThrow(FormatError);
    await expect(refused).rejects.toThrow(/numbers the tensors.*dense\/kernel.*--template/);
    expect(readdirSync(folder)).not.toContain("named.weights.h5");
  });
});
