import { DeviceError, OutOfMemoryError } from "../../base/errors.js";
import type { DeviceBlock } from "../../memory/device.js";

/** One buffer of the device, as a block of memory. */
export class Buffer implements DeviceBlock {
  readonly device = "webgpu";

  constructor(
    readonly id: number,
    readonly buffer: GPUBuffer,
    readonly bytes: number,
    private readonly owner: BufferPool,
  ) {}

  free(): void {
    this.owner.give(this);
  }
}

const LEAST = 256;
/** What stays for reuse, at most; a step frees and takes the same sizes again and again. */
const SPARE_BYTES = 1 << 29;

/**
 * Buffers by size class. Taking one costs tens of microseconds on some drivers, so that freed ones are kept. A freed
 * buffer may be taken at once, while commands that use it still wait: the queue keeps their order.
 */
export class BufferPool {
  private readonly spare = new Map<number, Buffer[]>();
  private spareBytes = 0;
  private ids = 0;
  private live = 0;

  constructor(
    private readonly device: GPUDevice,
    private readonly onDestroy: (buffer: Buffer) => void,
  ) {}

  get liveBytes(): number {
    return this.live;
  }

  /** Throws DeviceError for more than one buffer, or one binding of a shader, can hold. */
  take(bytes: number): Buffer {
    const size = sizeClass(bytes);
    this.live += size;
    const kept = this.spare.get(size)?.pop();
    if (kept) {
      this.spareBytes -= size;
      return kept;
    }
    this.checkLimits(bytes, size);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return new Buffer(this.ids++, this.device.createBuffer({ size, usage }), size, this);
  }

  give(buffer: Buffer): void {
    const { bytes } = buffer;
    this.live -= bytes;
    if (this.spareBytes + bytes > SPARE_BYTES) {
      this.onDestroy(buffer);
      buffer.buffer.destroy();
      return;
    }
    this.spareBytes += bytes;
    const list = this.spare.get(bytes);
    if (list) list.push(buffer);
    else this.spare.set(bytes, [buffer]);
  }

  private checkLimits(bytes: number, size: number): void {
    for (const name of ["maxBufferSize", "maxStorageBufferBindingSize"] as const) {
      const limit = this.device.limits[name];
      if (size <= limit) continue;
      const Kind = name === "maxBufferSize" ? OutOfMemoryError : DeviceError;
      throw new Kind({
        rule: `This device takes tensors of up to ${limit} bytes (${name})`,
        got: `${bytes} bytes`,
        fix: "Use a smaller batch, or split the tensor",
      });
    }
  }
}

/** A quarter of a power of two upwards, so that at most a fifth is not used. */
function sizeClass(bytes: number): number {
  if (bytes <= LEAST) return LEAST;
  const step = Math.max(LEAST, 2 ** (Math.floor(Math.log2(bytes - 1)) - 2));
  return Math.ceil(bytes / step) * step;
}
