import type { NumberArray } from "../../base/dtype.js";
import { bytesPerElement } from "../../base/dtype.js";
import { DeviceError, EvenkeelError, OutOfMemoryError } from "../../base/errors.js";
import type { DeviceMemory, DevicePlace } from "../../memory/device.js";
import type { Slot } from "../../memory/heap.js";
import { type Buffer, BufferPool } from "./buffers.js";
import { Chain } from "./chain.js";
import type { Expression } from "./chain_text.js";
import { decode, encode } from "./numbers.js";
import { type Pipeline, PipelineCache } from "./pipelines.js";
import type { Constants, Program } from "./program.js";
import type { Subgroups } from "./subgroups.js";

/** How many workgroups, where an element of the shader is `step` numbers (1 or 4). */
export type GroupsBySteps = (step: number) => number;

/** A call of a shader: operands by name (null where there is none), parameters by name, and how many workgroups. */
export interface Dispatch {
  readonly operands: Readonly<Record<string, Slot | null | undefined>>;
  readonly parameters?: Readonly<Record<string, number>>;
  readonly groups: number | GroupsBySteps;
  readonly constants?: Constants;
  /** Whether four elements may be taken at once; asked only where program and operands allow it. Default true. */
  readonly wide?: boolean;
}

/** Dispatches that one submit takes; more would let the device wait for JavaScript, fewer cost it time each. */
const BATCH = 128;
/** Bytes of a dispatch's parameters: dynamic offsets of uniforms are multiples of 256. */
const PARAMETER_BYTES = 256;

/** Copies and writes are in words; a half behind an odd number of them is nobody's. */
const inWords = (bytes: number): number => Math.ceil(bytes / 4) * 4;

/** What a device did since it was made. */
export interface Counts {
  submits: number;
  dispatches: number;
  reads: number;
}

/**
 * The device: memory, and a queue of dispatches that are gathered into few submits. A submit happens when enough have come together, when
 * numbers are read or written, and at the latest when JavaScript returns to its event loop.
 */
export class Gpu implements DeviceMemory {
  readonly buffers: BufferPool;
  readonly counts: Counts = { submits: 0, dispatches: 0, reads: 0 };
  readonly float16: boolean;
  /** Whether elementwise calls that follow each other may share a shader; to be changed where nothing waits. */
  fusing = true;
  private readonly chain = new Chain(
    (program, dispatch) => this.dispatch(program, dispatch),
    () => this.buffers.closed !== null,
  );
  private readonly pipelines: PipelineCache;
  private readonly uniforms: GPUBuffer;
  private readonly parameters = new ArrayBuffer(BATCH * PARAMETER_BYTES);
  private readonly words = new Uint32Array(this.parameters);
  private readonly floats = new Float32Array(this.parameters);
  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private waiting = 0;
  /** Whether what is in the encoder goes out once JavaScript has come to the end of what it does now. */
  private scheduled = false;
  /** The first thing that went wrong on the device, which it tells later than it happens. */
  private failure: GPUError | null = null;

  /** Shaders add up within `subgroups` if they are given. */
  constructor(
    readonly device: GPUDevice,
    readonly subgroups: Subgroups | null,
  ) {
    this.float16 = device.features.has("shader-f16");
    this.buffers = new BufferPool(
      device,
      (buffer) => {
        // A submit whose commands use a buffer that is destroyed by then is refused.
        this.flush();
        this.pipelines.forget(buffer);
      },
      (buffer) => this.chain.release(buffer),
    );
    this.pipelines = new PipelineCache(device, subgroups, PARAMETER_BYTES);
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    this.uniforms = device.createBuffer({ size: this.parameters.byteLength, usage });
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.failure ??= event.error;
    });
  }

  allocate(bytes: number): Buffer {
    this.checkFailure();
    return this.buffers.take(bytes);
  }

  write({ block, start, dtype }: DevicePlace, values: NumberArray): void {
    const { buffer } = block as Buffer;
    // Writes go before what waits in the encoder, which may still read the buffer.
    this.flush();
    this.device.queue.writeBuffer(buffer, start * bytesPerElement[dtype], encode(values, dtype));
  }

  copy(from: DevicePlace, to: DevicePlace): void {
    if (from.block === to.block) return;
    const [at, bytes] = [
      (p: DevicePlace) => p.start * bytesPerElement[p.dtype],
      inWords(from.length * bytesPerElement[from.dtype]),
    ];
    const [source, target] = [(from.block as Buffer).buffer, (to.block as Buffer).buffer];
    this.chain.flush();
    this.openEncoder().copyBufferToBuffer(source, at(from), target, at(to), bytes);
    this.schedule();
  }

  /** The numbers as they are after all that was asked before, whatever follows. Readings asked for together share a submit. */
  async read({ block, start, length, dtype }: DevicePlace): Promise<NumberArray> {
    this.counts.reads++;
    if (length === 0) return decode(new ArrayBuffer(0), dtype);
    // Copies begin and end at words, where two halves may lie.
    const [first, end] = [start, start + length].map((at) => at * bytesPerElement[dtype]) as [number, number];
    const from = first - (first % 4);
    const bytes = inWords(end - from);
    const { buffer } = block as Buffer;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.device.createBuffer({ size: bytes, usage });
    this.chain.flush();
    this.openEncoder().copyBufferToBuffer(buffer, from, staging, 0, bytes);
    this.schedule();
    try {
      // A buffer that is about to be mapped may not be in a submit.
      await Promise.resolve();
      this.flush();
      await staging.mapAsync(GPUMapMode.READ);
      await this.buffers.settled();
      this.checkFailure();
      return decode(staging.getMappedRange().slice(first - from, end - from), dtype);
    } catch (error) {
      throw await this.explain(error);
    } finally {
      staging.destroy();
    }
  }

  /** Queues a shader. Operands that share a buffer share its binding, as WebGPU demands. */
  run(program: Program, dispatch: Dispatch): void {
    this.chain.flush();
    this.dispatch(program, dispatch);
  }

  /** Queues a shader that gives each element of y by `expression`, perhaps as one with its neighbours; see Chain.add. */
  runElements(program: Program, dispatch: Dispatch, expression: Expression | null, stays: number): void {
    if (this.fusing && expression && this.chain.add(program, dispatch, expression, stays)) this.schedule();
    else this.run(program, dispatch);
  }

  private dispatch(program: Program, call: Dispatch): void {
    const { operands, parameters = {}, groups: wanted, constants = {}, wide = true } = call;
    if (wanted === 0) return;
    const pipeline = this.pipelines.get(program, operands, constants, wide);
    const groups = typeof wanted === "number" ? wanted : wanted(pipeline.step);
    if (groups === 0) return;
    if (this.waiting === BATCH) this.submit();
    const offset = this.waiting * PARAMETER_BYTES;
    this.writeParameters(offset / 4, program, operands, parameters, groups);
    const pass = this.openPass();
    pass.setPipeline(pipeline.pipeline);
    pass.setBindGroup(0, this.bindGroup(pipeline, operands), [offset]);
    const limit = this.device.limits.maxComputeWorkgroupsPerDimension;
    const rows = Math.ceil(groups / limit);
    pass.dispatchWorkgroups(Math.ceil(groups / rows), rows);
    this.counts.dispatches++;
    this.waiting++;
    this.schedule();
  }

  /** Sends what has been gathered to the device. */
  flush(): void {
    this.chain.flush();
    this.submit();
  }

  private submit(): void {
    if (!this.encoder) return;
    this.pass?.end();
    if (this.waiting > 0) {
      this.device.queue.writeBuffer(this.uniforms, 0, this.parameters, 0, this.waiting * PARAMETER_BYTES);
    }
    this.device.queue.submit([this.encoder.finish()]);
    this.counts.submits++;
    this.encoder = null;
    this.pass = null;
    this.waiting = 0;
  }

  /** Waits until the device has done all that was asked of it; throws what went wrong. */
  async finish(): Promise<void> {
    this.flush();
    try {
      await this.device.queue.onSubmittedWorkDone();
      await this.buffers.settled();
      this.checkFailure();
    } catch (error) {
      throw await this.explain(error);
    }
  }

  /** Says to whoever uses the device, or has tensors on it, that it is gone. */
  lose(why: string): void {
    this.buffers.close(lost(why));
  }

  private writeParameters(
    at: number,
    program: Program,
    operands: Dispatch["operands"],
    parameters: Readonly<Record<string, number>>,
    groups: number,
  ): void {
    this.words[at++] = groups;
    for (const name in program.operands) this.words[at++] = operands[name]?.start ?? 0;
    for (const name in program.parameters) {
      const value = parameters[name];
      if (value === undefined) throw new Error(`shader ${program.name} has the parameter ${name}, which was not given`);
      if (program.parameters[name] === "f32") this.floats[at++] = value;
      else this.words[at++] = value;
    }
  }

  private bindGroup(pipeline: Pipeline, operands: Dispatch["operands"]): GPUBindGroup {
    return this.pipelines.bindGroup(pipeline, operands, this.uniforms);
  }

  private openEncoder(): GPUCommandEncoder {
    this.pass?.end();
    this.pass = null;
    this.encoder ??= this.device.createCommandEncoder();
    return this.encoder;
  }

  private openPass(): GPUComputePassEncoder {
    this.encoder ??= this.device.createCommandEncoder();
    this.pass ??= this.encoder.beginComputePass();
    return this.pass;
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.flush();
    });
  }

  private checkFailure(): void {
    // What there was no room for makes all that uses it fail, too, and may be told later: the room is what to hear about.
    if (!this.buffers.isSettled) return;
    const noRoom = this.buffers.takeFailure();
    const { failure } = this;
    this.failure = null;
    if (noRoom) throw noRoom;
    if (!failure) return;
    const Kind = failure instanceof GPUOutOfMemoryError ? OutOfMemoryError : DeviceError;
    throw new Kind({ rule: "The WebGPU device must accept what it is asked for", got: failure.message });
  }

  /** The error for a reading that the platform refused: what went wrong before it, else that the device is gone. */
  private async explain(error: unknown): Promise<unknown> {
    if (error instanceof EvenkeelError) return error;
    await this.buffers.settled();
    try {
      this.checkFailure();
    } catch (earlier) {
      return earlier;
    }
    // The loss itself may be told a little later than what it ends.
    await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, 200))]);
    return this.buffers.closed ?? lost(error instanceof Error && error.message ? error.message : String(error));
  }
}

const lost = (why: string): DeviceError =>
  new DeviceError({
    rule: "Tensors on webgpu need their device",
    got: `a device that was lost${why ? ` (${why})` : ""}`,
    fix: "Call initWebGPU() again and make the tensors anew",
  });

let gpu: Gpu | null = null;

/** The device that shaders run on. */
export function theGpu(): Gpu {
  if (gpu) return gpu;
  throw lost("");
}

export function setGpu(to: Gpu | null): void {
  gpu = to;
}

/** Queues a shader on the device. */
export const run = (program: Program, dispatch: Dispatch): void => theGpu().run(program, dispatch);

/** Queues a shader that gives each element of y by `expression`, where it has one; see Chain.add. */
export const runElements = (program: Program, dispatch: Dispatch, expression: Expression | null, stays = 0): void =>
  theGpu().runElements(program, dispatch, expression, stays);
