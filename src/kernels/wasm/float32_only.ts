import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";

type Place = Slot | null | undefined;

/** Most WASM kernels compute in float32; slots of another type go to reference. A list of them would be made anew for each call. */
export function float32Only(kernel: string, a: Place, b?: Place, c?: Place, d?: Place): void {
  refuseOther(kernel, a);
  refuseOther(kernel, b);
  refuseOther(kernel, c);
  refuseOther(kernel, d);
}

function refuseOther(kernel: string, slot: Place): void {
  if (!slot || slot.dtype === "float32") return;
  throw new UnsupportedKernel({
    rule: `${kernel} has a WASM kernel for float32 only`,
    got: slot.dtype,
    fix: "The reference kernel takes it",
  });
}
