import { checkDevice } from "../autograd/index.js";
import { checkDType, type DType, isFloating } from "../base/dtype.js";
import { DeviceError, DTypeError } from "../base/errors.js";
import type { DeviceName } from "../memory/device.js";

/** Where and in which type a layer keeps its parameters; layers without parameters take it too, so that one object fits all. */
export interface PlacementOptions {
  readonly dtype?: DType;
  readonly device?: DeviceName;
}

export const placementDefaults = { dtype: "float32" as DType, device: "cpu" as DeviceName };

/** Throws DTypeError unless dtype is a floating-point type, DeviceError for a device that is not there. */
export function readPlacement(o: Required<PlacementOptions>): { dtype: DType } {
  if (checkDevice(o.device) !== "cpu") {
    throw new DeviceError({
      rule: "A layer is made on the CPU, where its parameters are drawn",
      got: `device "${o.device}"`,
      fix: 'Leave device out, and move the whole model: model.to("webgpu")',
    });
  }
  const dtype = checkDType(o.dtype);
  if (!isFloating(dtype)) throw new DTypeError({ rule: "A layer's dtype is float32 or float64", got: dtype });
  return { dtype };
}
