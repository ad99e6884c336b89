import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/index.js";
import { elementTypes } from "../../src/io/elements.js";
import { loadOnnx } from "../../src/io/index.js";
import { tensorProto } from "../../src/io/onnx/tensor_proto.js";
import { bytesOf, model, modelBytes } from "./onnx_model.js";

import { floats, one, x23 } from "./onnx_small.js";

describe("data in other files", () => {
  const folder = mkdtempSync(join(tmpdir(), "onnx-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const weights = elementTypes.float32.encode([9, 9, 1, 2, 3]);

  function withLocation(location: string, offset = "8", length = "12"): Uint8Array {
    const m = model(one([{ op: "Add", inputs: ["x", "w"] }]));
    const proto = tensorProto("w", floats([3], [0, 0, 0]));
    delete proto.rawData;
    proto.dataLocation = 1;
    const entries = Object.entries({ location, offset, length });
    proto.externalData = entries.map(([key, value]) => ({ $typeName: "onnx.Entry", key, value }));
    m.graph!.initializer = [proto];
    return bytesOf(m);
  }

  it("is read from beside the model, or from what the caller gives", () => {
    writeFileSync(join(folder, "weights.bin"), weights);
    writeFileSync(join(folder, "model.onnx"), withLocation("weights.bin"));
    const expected = [
      [2, 4, 6],
      [-3, -3, -3],
    ];
    expect(loadOnnx(join(folder, "model.onnx")).forward(x23()).toArray()).toEqual(expected);
    for (const externalData of [{ "weights.bin": weights }, new Map([["weights.bin", weights]]), () => weights]) {
      expect(loadOnnx(withLocation("weights.bin"), { externalData }).forward(x23()).toArray()).toEqual(expected);
    }
  });

  it("cannot lie outside of the model's folder, nor beyond its file", () => {
    writeFileSync(join(folder, "weights.bin"), weights);
    symlinkSync("/etc/hostname", join(folder, "link"));
    for (const location of ["../weights.bin", "/etc/hostname", "link", "a/../../x", "missing.bin"]) {
      writeFileSync(join(folder, "bad.onnx"), withLocation(location));
      expect(() => loadOnnx(join(folder, "bad.onnx")), location).toThrow(FormatError);
    }
    writeFileSync(join(folder, "bad.onnx"), withLocation("weights.bin", "12"));
    expect(() => loadOnnx(join(folder, "bad.onnx"))).toThrow(FormatError);
    expect(() => loadOnnx(withLocation("weights.bin"))).toThrow(/given with { externalData }/);
    expect(() => loadOnnx(withLocation("toString"), { externalData: {} })).toThrow(FormatError);
    expect(() => loadOnnx(withLocation("w", "12"), { externalData: { w: weights } })).toThrow(FormatError);
  });

  it("comes with a Blob or Response as with bytes", async () => {
    const bytes = modelBytes(one([{ op: "Neg", inputs: ["x"] }]));
    for (const input of [new Blob([bytes as BlobPart]), new Response(bytes as BodyInit)]) {
      const m = await loadOnnx(input);
      expect(m.forward(x23()).toArray()).toEqual([
        [-1, -2, -3],
        [4, 5, 6],
      ]);
    }
  });
});
