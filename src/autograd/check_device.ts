import { DeviceError } from "../base/errors.js";
import { type DeviceName, hasDevice } from "../memory/device.js";

/** Throws DeviceError for a device that does not exist, or is not there yet. */
export function checkDevice(device: unknown): DeviceName {
  if (device === "cpu") return device;
  if (device === "webgpu") {
    if (hasDevice(device)) return device;
    throw new DeviceError({
      rule: 'The device "webgpu" must be there before it is used',
      got: '"webgpu" without one',
      fix: 'import { initWebGPU } from "evenkeel/webgpu", and await initWebGPU() first',
    });
  }
  throw new DeviceError({
    rule: 'Evenkeel computes on "cpu" and "webgpu"',
    got: JSON.stringify(device) ?? String(device),
    fix: "Leave `device` out or name one of these",
  });
}
