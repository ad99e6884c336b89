import { bytesPerElement, type DType, type NumberArray } from "../base/dtype.js";
import { StateError } from "../base/errors.js";
import { heap, type Slot } from "./heap.js";

let hostAccess = true;

/** Lets JavaScript read and write numbers of tensors, or forbids it; says what held before. Kernels are not asked. */
export function setHostAccess(on: boolean): boolean {
  const before = hostAccess;
  hostAccess = on;
  return before;
}

/** Throws StateError where a function that is being captured would read or write numbers itself. */
export function checkHostAccess(): void {
  if (hostAccess) return;
  throw new StateError({
    rule: "A captured function computes with tensors alone, since only that can be repeated without running it",
    got: "JavaScript that reads or writes the numbers of a tensor",
    fix: "Return the tensor and read it outside, or leave this part out of the capture; docs/capture.md lists the layers that read numbers",
  });
}

/**
 * One block of the heap, counted by its holders (tensors that share it, and the tape). The block returns to the heap
 * when the last holder lets go; where that is left to garbage collection, `watch` puts it under the registry below.
 */
export class Storage implements Slot {
  readonly ptr: number;
  private readonly block: number;
  private holders = 1;
  private watched = false;
  /** Counts writes in place, so that a backward pass can tell that a value it saved has changed. */
  version = 0;

  constructor(
    readonly length: number,
    readonly dtype: DType,
  ) {
    this.block = heap.allocate(Math.max(1, length) * bytesPerElement[dtype]);
    this.ptr = heap.address(this.block);
  }

  get alive(): boolean {
    return this.holders > 0;
  }

  /** One holder only: nobody else can see a write. */
  get exclusive(): boolean {
    return this.holders === 1;
  }

  /** In memory set apart by a pool. */
  get pooled(): boolean {
    return this.block < 0;
  }

  get view(): NumberArray {
    checkHostAccess();
    if (this.holders <= 0) throw new StateError("The storage of this tensor was released");
    return heap.view(this);
  }

  /**
   * Called once no scope is sure to release it: from now on the block returns as well when all holders are garbage.
   * Not done for every storage, since a registration costs more than the whole rest of a small tensor.
   */
  watch(): void {
    if (this.watched || this.holders <= 0) return;
    this.watched = true;
    lost.register(this, this.block, this);
  }

  retain(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders !== 0) return;
    if (this.watched) lost.unregister(this);
    heap.free(this.block);
  }
}

const lost = new FinalizationRegistry<number>((block) => heap.free(block));
