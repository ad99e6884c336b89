/** The WebGPU of this platform, or one line that says why there is none. */
export async function findGPU(): Promise<GPU | string> {
  const gpu = (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
  if (gpu) return gpu;
  const secure = (globalThis as { isSecureContext?: boolean }).isSecureContext;
  return secure === false
    ? "WebGPU exists on secure pages only: serve this one by https, or from localhost"
    : "this browser has no WebGPU";
}

/** What to do where no adapter is found. */
export const adapterAdvice = "Look at chrome://gpu (or about:support) for why the browser offers no adapter";
