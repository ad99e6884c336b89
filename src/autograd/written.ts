import { type DType, type NumberArray, numbersOf } from "../base/dtype.js";
import type { Shape } from "../base/shape.js";
import { everyTime } from "../kernels/tape.js";
import { currentDevice, type DeviceName } from "../memory/device.js";
import { heap } from "../memory/heap.js";
import { storageFor, Tensor } from "./tensor.js";

/** A tensor whose numbers JavaScript writes, anew each time where a captured step is repeated. */
export function written(
  shape: Shape,
  dtype: DType,
  write: (to: NumberArray) => void,
  device: DeviceName = currentDevice(),
): Tensor {
  const storage = storageFor(shape, dtype, device);
  const t = new Tensor(storage, shape);
  if (storage.block) {
    const values = numbersOf(new Float64Array(t.size), dtype);
    write(values);
    return t.assign(values);
  }
  everyTime(() => write(heap.view(storage)));
  return t;
}
