import { DeviceError } from "../../base/errors.js";

/** The WebGPU of this platform, or one line that says why there is none. Throws DeviceError where an adapter is named. */
export async function findGPU(adapter?: string): Promise<GPU | string> {
  if (adapter !== undefined) {
    throw new DeviceError({
      rule: "In a browser it is the browser that chooses the adapter",
      got: `adapter ${JSON.stringify(adapter)}`,
      fix: 'Leave adapter out; { powerPreference: "low-power" } or "high-performance" is what a page may ask for',
    });
  }
  const gpu = (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
  if (gpu) return gpu;
  const secure = (globalThis as { isSecureContext?: boolean }).isSecureContext;
  return secure === false
    ? "WebGPU exists on secure pages only: serve this one by https, or from localhost"
    : "this browser has no WebGPU";
}

export const adapterError = (error: unknown): unknown => error;

/** What to do where no adapter is found. */
export const adapterAdvice = "Look at chrome://gpu (or about:support) for why the browser offers no adapter";
