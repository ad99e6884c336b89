/** Accessors as src/kernels/webgpu/program.ts writes them: name, what is done, parameters, result, body, and the buffer. */
const ACCESSOR = /^fn (\w+?)_(at|set)\((i: u32[^)]*)\)( -> [\w<>]+)? \{ (.*?\bb(\d+)\[.*) \}$/gm;
const BINDING = 90;
const MOST = 16;
const BYTES = { f16: 2, f32: 4, i32: 4, vec2f: 8, "vec4<f16>": 8, "vec4<f32>": 16, "vec4<i32>": 16 };

/** The shader with each accessor of an operand counting its calls, and the operands in the order of their counts. */
function counting(code) {
  const operands = [];
  const counted = code.replace(ACCESSOR, (_, name, kind, parameters, result = "", body, at) => {
    const element = code.match(new RegExp(`\\bb${at}: array<(.+)>;`))[1];
    operands.push({ name, done: kind === "at" ? "read" : "written", bytes: BYTES[element] });
    const count = `atomicAdd(&accesses[${operands.length - 1}], 1u);`;
    return `fn ${name}_${kind}(${parameters})${result} { ${count} ${body} }`;
  });
  if (operands.length > MOST) throw new Error(`a shader with ${operands.length} accessors`);
  const declared = `@group(0) @binding(${BINDING}) var<storage, read_write> accesses: array<atomic<u32>>;\n`;
  const at = counted.startsWith("enable") ? counted.indexOf("\n") + 1 : 0;
  return { operands, code: counted.slice(0, at) + declared + counted.slice(at) };
}

/**
 * Makes every shader of the device count what its lanes load and store. The function it returns runs something and gives, for
 * each shader in turn, { program, groups, operands: [{ name, done, bytes }] }: bytes as lanes ask for them, of which caches spare
 * what neighbours share. To be called before any shader is made.
 */
export function countAccesses(gpu) {
  const { device } = gpu;
  // Each call by itself: what shares a shader does not pass through gpu.run.
  gpu.fusing = false;
  const modules = new WeakMap();
  const pipelines = new WeakMap();
  const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const counts = device.createBuffer({ size: 4 * MOST, usage: storage });
  const wrap = (name, to) => {
    const plain = device[name].bind(device);
    device[name] = (given) => to(plain, given);
  };
  wrap("createBindGroupLayout", (plain, given) => {
    const entry = { binding: BINDING, visibility: GPUShaderStage.COMPUTE, buffer: { type: "storage" } };
    return plain({ ...given, entries: [...given.entries, entry] });
  });
  wrap("createBindGroup", (plain, given) =>
    plain({ ...given, entries: [...given.entries, { binding: BINDING, resource: { buffer: counts } }] }),
  );
  wrap("createShaderModule", (plain, { label, code }) => {
    const { operands, code: counted } = counting(code);
    const module = plain({ label, code: counted });
    modules.set(module, operands);
    return module;
  });
  wrap("createComputePipeline", (plain, given) => {
    const pipeline = plain(given);
    pipelines.set(pipeline, modules.get(given.compute.module));
    return pipeline;
  });

  let found = null;
  const plainRun = gpu.run.bind(gpu);
  gpu.run = (program, dispatch) => {
    if (!found) return plainRun(program, dispatch);
    const encoder = device.createCommandEncoder();
    const staging = device.createBuffer({ size: 4 * MOST, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    gpu.flush();
    device.queue.writeBuffer(counts, 0, new Uint32Array(MOST));
    plainRun(program, dispatch);
    gpu.flush();
    encoder.copyBufferToBuffer(counts, 0, staging, 0, 4 * MOST);
    device.queue.submit([encoder.finish()]);
    const { operands, constants = {}, wide = true, groups } = dispatch;
    const { pipeline, step } = gpu.pipelines.get(program, operands, constants, wide);
    const number = typeof groups === "number" ? groups : groups(step);
    found.push({ program: program.name, groups: number, lanes: program.lanes, of: pipelines.get(pipeline), staging });
  };

  return async (run) => {
    found = [];
    run();
    const shaders = found;
    found = null;
    const read = async ({ of, staging, ...shader }) => {
      await staging.mapAsync(GPUMapMode.READ);
      const calls = new Uint32Array(staging.getMappedRange().slice(0));
      staging.destroy();
      const operands = of.map(({ name, done, bytes }, i) => ({ name, done, bytes: bytes * calls[i] }));
      return { ...shader, operands: operands.filter(({ bytes }) => bytes > 0) };
    };
    return Promise.all(shaders.map(read));
  };
}
