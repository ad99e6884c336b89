import { DeviceError, type EvenkeelError, OutOfMemoryError } from "../../base/errors.js";
import type { DeviceBlock } from "../../memory/device.js";

/** One buffer of the device, as a block of memory. */
export class Buffer implements DeviceBlock {
  readonly device = "webgpu";
  /** Never that of another buffer, whichever device that is on: bind groups are kept by it. */
  readonly id = ids++;
  /** Why it holds nothing: the device had no room for it. */
  failure: EvenkeelError | null = null;

  constructor(
    private readonly held: GPUBuffer,
    readonly bytes: number,
    private readonly owner: BufferPool,
  ) {}

  /** Throws OutOfMemoryError for one that the device could not make, DeviceError for one of a device that is gone. */
  get buffer(): GPUBuffer {
    const failure = this.failure ?? this.owner.closed;
    if (failure) throw failure;
    return this.held;
  }

  free(): void {
    this.owner.give(this);
  }

  destroy(): void {
    this.held.destroy();
  }
}

let ids = 0;

const LEAST = 256;
/** What stays for reuse, at most; a step frees and takes the same sizes again and again. */
const SPARE_BYTES = 1 << 29;
// GPUBufferUsage, whose names Node has only once Dawn is loaded.
const USAGE = { storage: 0x80, copySource: 0x04, copyTarget: 0x08 } as const;

/** Bytes of buffers: in use and the most that ever were, and all that there are, those kept for reuse included. */
export interface BufferStats {
  readonly liveBytes: number;
  readonly peakBytes: number;
  readonly reservedBytes: number;
  readonly liveBlocks: number;
}

/**
 * Buffers by size class. Taking one costs tens of microseconds on some drivers, so that freed ones are kept. A freed
 * buffer may be taken at once, while commands that use it still wait: the queue keeps their order.
 */
export class BufferPool {
  private readonly spare = new Map<number, Buffer[]>();
  private spareBytes = 0;
  private live = 0;
  private peak = 0;
  private blocks = 0;
  /** All buffers together that the device once had no room for; what comes near it gives the spare ones back first. */
  private ceiling = Number.POSITIVE_INFINITY;
  /** Answers that the device still owes: whether it had room for a buffer. */
  private readonly owed = new Set<Promise<void>>();
  private failure: EvenkeelError | null = null;
  /** What whoever uses a buffer of this pool meets once the device is gone. */
  closed: EvenkeelError | null = null;

  /** `onDestroy` is told before a buffer is destroyed, which what still waits in an encoder may use; `onFree` that one is free. */
  constructor(
    private readonly device: GPUDevice,
    private readonly onDestroy: (buffer: Buffer) => void,
    private readonly onFree: (buffer: Buffer) => void = () => {},
  ) {}

  get stats(): BufferStats {
    const { live, peak, spareBytes, blocks } = this;
    return { liveBytes: live, peakBytes: peak, reservedBytes: live + spareBytes, liveBlocks: blocks };
  }

  get liveBytes(): number {
    return this.live;
  }

  /** Throws DeviceError for more than one buffer, or one binding of a shader, can hold. */
  take(bytes: number): Buffer {
    const size = this.sizeOf(bytes);
    const kept = this.spare.get(size)?.pop();
    if (kept) this.spareBytes -= size;
    const buffer = kept ?? this.make(size);
    this.live += size;
    this.blocks++;
    if (this.live > this.peak) this.peak = this.live;
    return buffer;
  }

  give(buffer: Buffer): void {
    const { bytes } = buffer;
    this.onFree(buffer);
    this.live -= bytes;
    this.blocks--;
    if (buffer.failure || this.closed || this.spareBytes + bytes > SPARE_BYTES) {
      this.destroy(buffer);
      return;
    }
    this.spareBytes += bytes;
    const list = this.spare.get(bytes);
    if (list) list.push(buffer);
    else this.spare.set(bytes, [buffer]);
  }

  /** Gives the device back what is kept for reuse. */
  trim(): void {
    const all = [...this.spare.values()].flat();
    this.spare.clear();
    this.spareBytes = 0;
    for (const buffer of all) this.destroy(buffer);
  }

  /** Ends the pool with its device: whoever uses a buffer of it meets `reason`. */
  close(reason: EvenkeelError): void {
    this.closed = reason;
    this.trim();
  }

  /** Whether it is known of all that was taken if the device had room for it. */
  get isSettled(): boolean {
    return this.owed.size === 0;
  }

  /** Waits until it is known whether the device had room for all that was taken. */
  async settled(): Promise<void> {
    while (this.owed.size > 0) await Promise.all(this.owed);
  }

  /** What the device had no room for, told once. */
  takeFailure(): EvenkeelError | null {
    const { failure } = this;
    this.failure = null;
    return failure;
  }

  private make(size: number): Buffer {
    const all = this.live + this.spareBytes + size;
    if (all >= this.ceiling) this.trim();
    // The device tells later that it has no room. A scope for each buffer says which one it was; few are made.
    this.device.pushErrorScope("out-of-memory");
    const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
    const buffer = new Buffer(this.device.createBuffer({ size, usage }), size, this);
    const answer = this.device.popErrorScope().then(
      (error) => {
        if (error) this.refused(buffer, all);
      },
      // A device that is lost has no answer; the loss is what is told.
      () => {},
    );
    this.owed.add(answer);
    void answer.then(() => this.owed.delete(answer));
    return buffer;
  }

  private refused(buffer: Buffer, all: number): void {
    const { live, spareBytes } = this;
    buffer.failure = new OutOfMemoryError({
      rule: "The device webgpu must have room for a tensor",
      got: `a request for ${mib(buffer.bytes)} MiB with ${mib(live)} MiB alive and ${mib(spareBytes)} MiB kept for reuse`,
      fix: "Wrap each step in scope(() => ...), dispose what is no longer needed, or use a smaller batch",
    });
    this.failure ??= buffer.failure;
    this.ceiling = Math.min(this.ceiling, all);
    // It may have been freed meanwhile, and then waits among the spare ones.
    this.trim();
    this.onDestroy(buffer);
  }

  private destroy(buffer: Buffer): void {
    this.onDestroy(buffer);
    buffer.destroy();
  }

  private sizeOf(bytes: number): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (bytes <= limit) return Math.min(sizeClass(bytes), limit - (limit % 4));
    const name = maxBufferSize <= maxStorageBufferBindingSize ? "maxBufferSize" : "maxStorageBufferBindingSize";
    throw new DeviceError({
      rule: `This device takes tensors of up to ${limit} bytes (${name})`,
      got: `${bytes} bytes`,
      fix: "Use a smaller batch, or split the tensor",
      request: true,
    });
  }
}

/** A quarter of a power of two upwards, so that at most a fifth is not used. */
function sizeClass(bytes: number): number {
  if (bytes <= LEAST) return LEAST;
  const step = Math.max(LEAST, 2 ** (Math.floor(Math.log2(bytes - 1)) - 2));
  return Math.ceil(bytes / step) * step;
}

const mib = (bytes: number): string => (bytes / (1 << 20)).toFixed(1);
