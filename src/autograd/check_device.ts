import { DeviceError } from "../base/errors.js";
import { type DeviceName, memoryOf } from "../memory/device.js";

/** Throws DeviceError for a device that does not exist, or is not there yet. */
export function checkDevice(device: unknown): DeviceName {
  if (device === "cpu") return device;
  if (device === "webgpu") {
    memoryOf(device);
    return device;
  }
  throw new DeviceError({
    rule: 'Evenkeel computes on "cpu" and "webgpu"',
    got: JSON.stringify(device) ?? String(device),
    fix: "Leave `device` out or name one of these",
  });
}
