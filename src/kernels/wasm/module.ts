import { heap } from "../../memory/heap.js";
import { kernelsBase64, memoryFlagOffset } from "./generated/kernels_wasm.js";

/** Every exported kernel: arguments as doubles at `args`, and the units [lo, hi) that this call computes. */
export type Kernel = (args: number, lo: number, hi: number, worker: number) => void;

function decode(): Uint8Array<ArrayBuffer> {
  const text = atob(kernelsBase64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  // The module asks for a shared memory; where there is none, the flag byte of that import says so (1 = not shared).
  if (!heap.shared) bytes[memoryFlagOffset] = 1;
  return bytes;
}

export const wasmModule = new WebAssembly.Module(decode());
const instance = new WebAssembly.Instance(wasmModule, { env: { memory: heap.memory } });

export const kernelNames: readonly string[] = Object.entries(instance.exports)
  .filter(([, value]) => typeof value === "function")
  .map(([name]) => name);

export const kernelTable: readonly Kernel[] = kernelNames.map((name) => instance.exports[name] as Kernel);

const indexByName = new Map(kernelNames.map((name, index) => [name, index]));

export function kernelIndex(name: string): number {
  const index = indexByName.get(name);
  if (index === undefined) throw new Error(`no WASM kernel is named ${name}`);
  return index;
}
