import { expect, test } from "vitest";
import type { Tensor } from "../../src/autograd/index.js";
import { DeviceError } from "../../src/base/errors.js";
import type { DeviceName } from "../../src/memory/device.js";
import { relativeError } from "./harness.js";
import { measured } from "./measured.js";
import { offDevice } from "./off_device.js";
import { noWebGPU } from "./webgpu_mirror.js";

export interface OnDevice {
  readonly kind: "op" | "layer";
  /** The name under which `offDevice` would list it. */
  readonly name: string;
  /** Largest allowed max|y - cpu| / max|cpu| of each result. */
  readonly tolerance: number;
  /** Computes on a device, forward and backward: results and gradients. */
  readonly run: (device: DeviceName) => Tensor[];
}

/** A test that something computes on WebGPU what it computes on the CPU, or refuses to if it is listed as doing so. */
export function testOnDevice({ kind, name, tolerance, run }: OnDevice): void {
  const refused = offDevice[name];
  test(`${name} on webgpu${refused ? `, refused: ${refused}` : " as on the CPU"}`, async ({ skip, task }) => {
    skip(noWebGPU !== null, noWebGPU ?? "");
    const of = { kind, family: kind, name, on: "webgpu" } as const;
    if (refused) {
      expect(() => run("webgpu")).toThrow(DeviceError);
      task.meta.measured = { ...of, error: 0, refused };
      return;
    }
    const want = run("cpu").map((t) => t.dataSync());
    const got = await Promise.all(run("webgpu").map((t) => t.data()));
    const errors = got.map((y, i) => relativeError(y, want[i]!));
    task.meta.measured = measured(of, errors);
    for (const [i, error] of errors.entries()) expect(error, `result ${i}`).toBeLessThanOrEqual(tolerance);
  });
}
