import { checkDevice, type Tensor } from "../autograd/index.js";
import { checkDType, type DType, isFloating } from "../base/dtype.js";
import { DTypeError } from "../base/errors.js";
import type { DeviceName } from "../memory/device.js";

/** Where and in which type a layer keeps its parameters; layers without parameters take it too, so that one object fits all. */
export interface PlacementOptions {
  readonly dtype?: DType;
  /** Parameters are drawn in JavaScript wherever they go, so that one seed gives the same on every device. */
  readonly device?: DeviceName;
}

export const placementDefaults = { dtype: "float32" as DType, device: "cpu" as DeviceName };

/**
 * Where a layer makes its parameters and floating-point buffers; its counters stay on the CPU. Throws DTypeError unless
 * dtype is one that parameters can be drawn and learned in, DeviceError for a device that is not there.
 */
export function readPlacement(o: Required<PlacementOptions>): Required<PlacementOptions> {
  const device = checkDevice(o.device);
  const dtype = checkDType(o.dtype);
  if (!isFloating(dtype) || dtype === "float16") {
    const fix = dtype === "float16" ? { fix: 'Make it in float32, then model.to("webgpu").to("float16")' } : {};
    throw new DTypeError({ rule: "A layer's dtype is float32 or float64", got: dtype, ...fix });
  }
  return { dtype, device };
}

/** A tensor that a layer is given to keep, in the layer's type; one that lies on a device already stays there. */
export function asPlaced(t: Tensor | null | undefined, { dtype, device }: Required<PlacementOptions>): Tensor | null {
  const kept = t?.cast(dtype).detach() ?? null;
  return device === "cpu" ? kept : (kept?.to(device) ?? null);
}
