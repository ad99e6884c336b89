import { kernelArgs, run } from "../threads/pool.js";
import { kernelTable } from "../wasm/module.js";

/** `launch` for a kernel of the native library, by its place among those (see `native` in native.ts). */
export function launchNative(place: number, units: number, work: number, args: readonly number[]): void {
  const to = kernelArgs();
  for (let i = 0; i < args.length; i++) to[i] = args[i]!;
  run(kernelTable.length + place, units, work);
}
