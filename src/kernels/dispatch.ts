import { DeviceError, UnsupportedKernel } from "../base/errors.js";
import { currentDevice, type DeviceName } from "../memory/device.js";
import type { KernelSet } from "./kernel_set.js";
import { reference } from "./reference/index.js";
import { currentTape, recordCall } from "./tape.js";
import { wasm } from "./wasm/index.js";

type AnyKernel = (...args: unknown[]) => void;

const table: Record<string, AnyKernel> = {};

/**
 * The kernels that ops call: the WASM kernel where there is one, else reference. A kernel answers for itself whether
 * it can take a call; only its typed "unsupported" leads to the fallback, every other error is a defect and passes.
 */
export const kernels: KernelSet = table as unknown as KernelSet;

/** Puts `first` before the WASM kernels, in the place of what was there before; the same fallback holds. */
export function preferKernels(first: Partial<KernelSet>): void {
  for (const [name, slow] of Object.entries(reference) as [string, AnyKernel][]) {
    const [fast, faster] = [wasm, first].map((set) => (set as Record<string, AnyKernel | undefined>)[name]);
    const usual = fast ? inTurn(fast, slow) : slow;
    table[name] = recorded(name, faster ? inTurn(faster, usual) : usual);
  }
}

/** Nine parameters are the most that a kernel has; a list of them would be made anew for each call. */
function inTurn(fast: AnyKernel, slow: AnyKernel): AnyKernel {
  return (a, b, c, d, e, f, g, h, i) => {
    try {
      fast(a, b, c, d, e, f, g, h, i);
    } catch (error) {
      if (!(error instanceof UnsupportedKernel)) throw error;
      slow(a, b, c, d, e, f, g, h, i);
    }
  };
}

const devices = new Map<DeviceName, Record<string, AnyKernel>>();

/** The kernels of a device other than the CPU; what it lacks is refused, since nothing else reaches its memory. */
export function setDeviceKernels(device: DeviceName, kernels: Partial<KernelSet> | null): void {
  devices.delete(device);
  if (!kernels) return;
  const entries = Object.entries(kernels) as [string, AnyKernel][];
  devices.set(device, Object.fromEntries(entries.map(([name, kernel]) => [name, refusing(device, kernel)])));
}

function deviceKernel(device: DeviceName, name: string): AnyKernel {
  const kernel = devices.get(device)?.[name];
  if (kernel) return kernel;
  throw new DeviceError({
    rule: `${device} computes what it has a kernel for`,
    got: devices.has(device) ? `${name}, which it has none for` : `${name} after the device was given up`,
    fix: devices.has(device) ? "Compute this part on the CPU: await t.data()" : "Call initWebGPU() again",
  });
}

/** What a device's kernel does not take is an error there, since no other reaches its memory. */
function refusing(device: DeviceName, kernel: AnyKernel): AnyKernel {
  return (...args) => {
    try {
      kernel(...args);
    } catch (error) {
      if (!(error instanceof UnsupportedKernel)) throw error;
      const fix = "Compute this part on the CPU: await t.data()";
      throw new DeviceError({ rule: `${device} computes what it has a kernel for`, got: error.message, fix });
    }
  };
}

/** A kernel on the device that is at work, whose calls are written down while a tape runs. */
function recorded(name: string, cpu: AnyKernel): AnyKernel {
  return (a, b, c, d, e, f, g, h, i) => {
    const device = currentDevice();
    const kernel = device === "cpu" ? cpu : deviceKernel(device, name);
    if (currentTape() === null) kernel(a, b, c, d, e, f, g, h, i);
    else recordCall([a, b, c, d, e, f, g, h, i], () => kernel(a, b, c, d, e, f, g, h, i));
  };
}

preferKernels({});
