/** How many lanes the subgroups of a device have: powers of two, and a shader may get any of them. */
export interface Subgroups {
  readonly least: number;
  readonly most: number;
}

const LANES = 256;
const GROUPS = 4;

const code = `
enable subgroups;
@group(0) @binding(0) var<storage, read_write> found: array<vec2u>;
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) own: u32) {
  found[id.x * ${LANES}u + lane] = vec2u(size, own);
}`;

/**
 * The subgroups of a device where lanes of a workgroup fill them in their order, which WGSL leaves open: a shader says. Null where
 * they do not, or where there are none.
 */
export async function findSubgroups(device: GPUDevice, { subgroupMinSize, subgroupMaxSize }: GPUAdapterInfo) {
  if (!device.features.has("subgroups")) return null;
  const [least, most] = [subgroupMinSize ?? 4, subgroupMaxSize ?? 128];
  const found = await ask(device);
  const size = found[0]!;
  const known = least <= size && size <= most && most <= LANES;
  for (let i = 0; i < LANES * GROUPS; i++) {
    if (found[2 * i] !== size || found[2 * i + 1] !== (i % LANES) % size) return null;
  }
  return known ? ({ least, most } satisfies Subgroups) : null;
}

async function ask(device: GPUDevice): Promise<Uint32Array> {
  const size = LANES * GROUPS * 8;
  const buffer = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const module = device.createShaderModule({ label: "subgroups", code });
  const pipeline = device.createComputePipeline({ label: "subgroups", layout: "auto", compute: { module } });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer } }];
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(GROUPS);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const found = new Uint32Array(staging.getMappedRange().slice(0));
  buffer.destroy();
  staging.destroy();
  return found;
}
