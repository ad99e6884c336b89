import type { DType, NumberArray } from "../base/dtype.js";
import { bytesPerElement } from "../base/dtype.js";
import { OutOfMemoryError } from "../base/errors.js";
import { BlockAllocator } from "./allocator.js";
import { type DeviceBlock, notOnTheHeap } from "./device.js";
import { MemoryPool, poolOf } from "./pool.js";

const PAGE = 65536;
/** Below this address lie the kernels' constants and the control words of the thread pool; above it, tensors. */
export const HEAP_START = 1 << 20;
const FIRST_PAGES = (HEAP_START + (16 << 20)) / PAGE;
/** 4 GiB, the reach of a 32-bit address; engines that will not reserve that much are asked for less. */
const MAXIMUM_PAGES = [65536, 49152, 32768, 16384, 8192];

/** A place in memory, as kernels see it: an address in the heap, or elements of a block on another device. */
export interface Slot {
  /** Byte address in the heap. Throws DeviceError for a place on another device. */
  readonly ptr: number;
  /** Number of elements. */
  readonly length: number;
  readonly dtype: DType;
  /** Null in the heap. */
  readonly block?: DeviceBlock | null;
  /** The first element in its block, on a device other than the CPU. */
  readonly start?: number;
}

/** `length` elements of a slot, from element `start` on. */
export function partOf(slot: Slot, start: number, length: number): Slot {
  const { dtype, block } = slot;
  if (!block) return { ptr: slot.ptr + start * bytesPerElement[dtype], length, dtype };
  return new DeviceSlot(block, (slot.start ?? 0) + start, length, dtype);
}

/** Elements of a block on another device. */
export class DeviceSlot implements Slot {
  constructor(
    readonly block: DeviceBlock,
    readonly start: number,
    readonly length: number,
    readonly dtype: DType,
  ) {}

  get ptr(): number {
    throw notOnTheHeap(this.block.device);
  }
}

function reserve(): { memory: WebAssembly.Memory; shared: boolean; maximum: number } {
  const sharing = typeof SharedArrayBuffer !== "undefined";
  for (const shared of sharing ? [true, false] : [false]) {
    for (const maximum of MAXIMUM_PAGES) {
      try {
        return { memory: new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared }), shared, maximum };
      } catch {
        // The engine refuses to reserve this much, or to share; the next smaller wish follows.
      }
    }
  }
  throw new OutOfMemoryError({
    rule: "Evenkeel needs a WebAssembly memory that can reach 512 MiB",
    got: "a refusal from the engine",
    fix: "Close other pages or raise the process's memory limit",
  });
}

/** The one memory of all CPU tensors: any kernel and any thread reaches any tensor without a copy. */
export class Heap {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  private readonly maximumPages: number;
  private readonly blocks = new BlockAllocator(64);
  private readonly ground = {
    allocate: (bytes: number) => this.take(bytes),
    free: (block: number) => this.blocks.free(block),
    address: (block: number) => HEAP_START + this.blocks.offset(block),
  };
  private buffer: ArrayBufferLike;
  /** Those of before a growth. Where memory is shared they show the same bytes still. */
  private readonly formerBuffers = new WeakSet<ArrayBufferLike>();
  private f32: Float32Array;
  private f64: Float64Array;
  private i32: Int32Array;
  private peak = 0;
  private pool: MemoryPool | null = null;

  constructor() {
    const { memory, shared, maximum } = reserve();
    this.memory = memory;
    this.shared = shared;
    this.maximumPages = maximum;
    this.buffer = memory.buffer;
    this.f32 = new Float32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.blocks.extend(this.buffer.byteLength - HEAP_START);
  }

  /** Live, peak and reserved bytes, and the number of live blocks. */
  get stats(): { liveBytes: number; peakBytes: number; reservedBytes: number; liveBlocks: number } {
    return {
      liveBytes: this.blocks.liveBytes,
      peakBytes: this.peak,
      reservedBytes: this.buffer.byteLength,
      liveBlocks: this.blocks.liveBlocks,
    };
  }

  resetPeak(): void {
    this.peak = this.blocks.liveBytes;
  }

  /** Runs `body` and says how far its need rose above what was alive before or is alive after it. */
  measure<T>(body: () => T): { result: T; bytes: number } {
    const { peak } = this;
    const before = this.blocks.liveBytes;
    this.resetPeak();
    try {
      const result = body();
      return { result, bytes: this.peak - Math.max(before, this.blocks.liveBytes) };
    } finally {
      this.peak = Math.max(peak, this.peak);
    }
  }

  /** Memory apart, with room for `bytes`; it takes more as it needs it. */
  newPool(bytes: number): MemoryPool {
    return new MemoryPool(this.ground, bytes);
  }

  /** From now on blocks come from `pool`, or from the heap itself. Returns where they came from. */
  usePool(pool: MemoryPool | null): MemoryPool | null {
    const before = this.pool;
    this.pool = pool;
    return before;
  }

  /** A block id; its address is `address(id)`, on a 64-byte boundary. Contents are undefined. */
  allocate(bytes: number): number {
    return this.pool ? this.pool.allocate(bytes) : this.take(bytes);
  }

  private take(bytes: number): number {
    let block = this.blocks.allocate(bytes);
    if (block < 0) {
      this.grow(bytes);
      block = this.blocks.allocate(bytes);
    }
    if (this.blocks.liveBytes > this.peak) this.peak = this.blocks.liveBytes;
    return block;
  }

  free(block: number): void {
    if (block < 0) poolOf(block).free(block);
    else this.blocks.free(block);
  }

  address(block: number): number {
    return block < 0 ? poolOf(block).address(block) : HEAP_START + this.blocks.offset(block);
  }

  /** The numbers of one slot to another of the same length and type. */
  copy(from: Slot, to: Slot): void {
    const start = from.ptr / bytesPerElement[from.dtype];
    this.allOf(from.dtype).copyWithin(to.ptr / bytesPerElement[to.dtype], start, start + from.length);
  }

  /** Elements of a slot as a view; valid until the heap grows, so take it afresh for each use. */
  view(slot: Slot): NumberArray {
    const from = slot.ptr / bytesPerElement[slot.dtype];
    return this.allOf(slot.dtype).subarray(from, from + slot.length);
  }

  /** One element of a slot; making a view for it would cost many times as much. */
  read(slot: Slot, index: number): number {
    return this.allOf(slot.dtype)[slot.ptr / bytesPerElement[slot.dtype] + index]!;
  }

  write(slot: Slot, index: number, value: number): void {
    this.allOf(slot.dtype)[slot.ptr / bytesPerElement[slot.dtype] + index] = value;
  }

  /** The whole memory as 32-bit words and as doubles, for kernel arguments and control words. */
  get words(): Int32Array {
    return this.i32;
  }

  get doubles(): Float64Array {
    return this.f64;
  }

  /** "610.0 MiB in 9 blocks (2 x 300.0 MiB, 1 x 8.0 MiB, ...)": which sizes hold the memory tells whose they are. */
  private describeLive(): string {
    const { liveBytes, liveBlocks } = this.stats;
    const groups = [...this.blocks.liveSizes()].sort(([a, m], [b, n]) => b * n - a * m);
    const told = groups.slice(0, GROUPS_TOLD).map(([size, count]) => `${count} x ${mib(size)} MiB`);
    if (groups.length > GROUPS_TOLD) told.push("...");
    return `${mib(liveBytes)} MiB in ${liveBlocks} blocks${told.length > 0 ? ` (${told.join(", ")})` : ""}`;
  }

  private allOf(dtype: DType): NumberArray {
    return dtype === "float32" ? this.f32 : dtype === "float64" ? this.f64 : this.i32;
  }

  /** Whether a view shows a place in the heap: at its byteOffset, also if the heap has grown since. */
  holds(view: ArrayBufferView): boolean {
    return view.buffer === this.buffer || (this.shared && this.formerBuffers.has(view.buffer));
  }

  /** After each growth, which `grow` alone brings about. */
  private refresh(): void {
    this.formerBuffers.add(this.buffer);
    this.buffer = this.memory.buffer;
    this.f32 = new Float32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
  }

  private grow(bytes: number): void {
    const need = this.blocks.shortfall(bytes);
    const have = this.buffer.byteLength / PAGE;
    const needPages = Math.ceil(need / PAGE);
    // Growing by an eighth more than asked keeps the number of growths small without doubling a large heap.
    const wish = Math.min(this.maximumPages - have, Math.max(needPages, Math.ceil(have / 8)));
    for (const pages of wish > needPages ? [wish, needPages] : [needPages]) {
      if (pages < needPages || have + pages > this.maximumPages) continue;
      try {
        this.memory.grow(pages);
      } catch {
        continue;
      }
      this.refresh();
      this.blocks.extend(pages * PAGE);
      return;
    }
    throw new OutOfMemoryError({
      rule: `The heap holds at most ${mib(this.maximumPages * PAGE)} MiB`,
      got: `a request for ${mib(bytes)} MiB with ${this.describeLive()} alive`,
      fix: "Wrap each step in scope(() => ...), dispose what is no longer needed, or use a smaller batch",
      request: true,
    });
  }
}

/** How many groups of equal blocks an out-of-memory error names, those that hold most first. */
const GROUPS_TOLD = 4;

const mib = (bytes: number): string => (bytes / (1 << 20)).toFixed(1);

export const heap = new Heap();

/** Live, peak and reserved bytes of all CPU tensors, and the number of live blocks. */
export const memoryStats = (): Heap["stats"] => heap.stats;
