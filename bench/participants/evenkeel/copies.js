import { scope, tensor } from "../../../dist/index.js";
import { theGpu } from "../../../dist/kernels/webgpu/device.js";

const LANES = 256;

/** Each lane moves one vec4f: what the simplest shader reaches. */
const copy = {
  name: "bench_copy",
  operands: { x: { access: "read" }, y: { access: "write" } },
  parameters: { length: "u32" },
  lanes: LANES,
  wide: true,
  code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i < P.length / STEP) { y_set(i, x_at(i)); }
}`,
};

/** The memory roofline of the device: a shader that copies, and the device's own command for it. */
export function copies({ length }) {
  const gpu = theGpu();
  const make = () => tensor(new Float32Array(length).fill(1), { device: "webgpu" });
  const [x, y] = [make(), make()];
  const [from, to] = [x.storage, y.storage];
  const bytes = 4 * length;
  return {
    run: {
      shader: () =>
        scope(() =>
          gpu.run(copy, {
            operands: { x: from, y: to },
            parameters: { length },
            groups: (step) => Math.ceil(length / (LANES * step)),
          }),
        ),
      command() {
        gpu.flush();
        const encoder = gpu.device.createCommandEncoder();
        encoder.copyBufferToBuffer(from.block.buffer, 0, to.block.buffer, 0, bytes);
        gpu.device.queue.submit([encoder.finish()]);
      },
    },
    results: () => ({}),
    release() {
      x.dispose();
      y.dispose();
    },
  };
}
