import { arithmeticType } from "../base/dtype.js";
import { DeviceError, StateError } from "../base/errors.js";
import type { DeviceName } from "../memory/device.js";
import { checkDevice } from "./check_device.js";
import type { Tensor } from "./tensor.js";
import { written } from "./written.js";

/** A copy on `device` without history; the tensor itself when it is there. */
export function toDevice(t: Tensor, device: DeviceName): Tensor {
  if (t.device === device) return t;
  if (device === "cpu") {
    throw new DeviceError({
      rule: "What comes back to the CPU has to be waited for",
      got: `to("cpu") of a tensor on ${t.device}`,
      fix: "Use await t.toCPU(), or await t.data() for the numbers",
    });
  }
  checkDevice(device);
  if (t.vertex.node) {
    throw new StateError({
      rule: "A tensor goes to another device without history",
      got: `the result of ${t.vertex.node.name}, which has one`,
      fix: "Move the model's inputs and parameters instead, or detach() it first",
    });
  }
  const { storage } = t;
  const copy = written(t.shape, t.dtype, (to) => to.set(storage.view), device);
  if (t.requiresGrad) copy.requiresGrad = true;
  return copy;
}

/** A copy on the CPU, without history; the tensor itself when it is there. float16 becomes float32, which the CPU has. */
export async function toCPU(t: Tensor): Promise<Tensor> {
  return t.device === "cpu" ? t : copyOnCPU(t);
}

/** A copy on the CPU, without history, of the numbers as they are now: what is asked of a device from now on comes later. */
export async function copyOnCPU(t: Tensor): Promise<Tensor> {
  const { shape, dtype } = t;
  const values = await t.data();
  return written(shape, arithmeticType(dtype), (to) => to.set(values), "cpu");
}
