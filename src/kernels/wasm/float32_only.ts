import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";

/** Most WASM kernels compute in float32; slots of another type go to reference. */
export function float32Only(kernel: string, ...slots: readonly Slot[]): void {
  const other = slots.find((slot) => slot.dtype !== "float32");
  if (!other) return;
  throw new UnsupportedKernel({
    rule: `${kernel} has a WASM kernel for float32 only`,
    got: other.dtype,
    fix: "The reference kernel takes it",
  });
}
