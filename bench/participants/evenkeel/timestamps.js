const PASSES = 1024;
const NANOSECONDS = 1e6;

/**
 * `kernel(run, calls)`: the milliseconds of a call between the first and the last shader of each pass, by the device's clock.
 * Null where the device has no timestamps, or `run` makes no pass. Browsers and Dawn round timestamps to about 0.1 ms, so that
 * passes should be long: many calls without an await share one.
 */
export function timer(gpu) {
  const { device } = gpu;
  if (!device.features.has("timestamp-query")) return async () => null;
  const querySet = device.createQuerySet({ type: "timestamp", count: 2 * PASSES });
  const size = 16 * PASSES;
  const resolved = device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  let passes = 0;
  let watching = false;
  const plain = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    const encoder = plain(descriptor);
    if (!watching) return encoder;
    const begin = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = () => {
      if (passes === PASSES) return begin();
      const at = 2 * passes++;
      return begin({ timestampWrites: { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 } });
    };
    return encoder;
  };

  return async (run, calls) => {
    await gpu.finish();
    passes = 0;
    watching = true;
    let done = 0;
    // Calls beyond the last timestamp would be counted but not timed.
    while (done < calls && passes < PASSES - 1) {
      run();
      done++;
    }
    gpu.flush();
    watching = false;
    if (passes === 0) return null;
    const encoder = plain();
    encoder.resolveQuerySet(querySet, 0, 2 * passes, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const times = new BigUint64Array(staging.getMappedRange().slice(0));
    staging.unmap();
    let total = 0n;
    for (let i = 0; i < passes; i++) total += times[2 * i + 1] - times[2 * i];
    return Number(total) / NANOSECONDS / done;
  };
}
