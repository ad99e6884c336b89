import { bytesPerElement, type DType, type NumberArray } from "../base/dtype.js";
import { StateError } from "../base/errors.js";
import { checkFloat16, currentDevice, type DeviceBlock, type DeviceName, memoryOf, notOnTheHeap } from "./device.js";
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
 * One block of memory, counted by its holders (tensors that share it, and the tape). The block returns to where it came
 * from when the last holder lets go; where that is left to garbage collection, `watch` puts it under the registry below.
 */
export class Storage implements Slot {
  readonly start = 0;
  /** The block on a device other than the CPU. */
  readonly block: DeviceBlock | null;
  private readonly home: number;
  private readonly address: number;
  private holders = 1;
  private watched = false;
  /** Counts writes in place, so that a backward pass can tell that a value it saved has changed. */
  version = 0;

  constructor(
    readonly length: number,
    readonly dtype: DType,
    readonly device: DeviceName = currentDevice(),
  ) {
    if (dtype === "float16") checkFloat16(device);
    const bytes = Math.max(1, length) * bytesPerElement[dtype];
    if (device === "cpu") {
      this.block = null;
      this.home = heap.allocate(bytes);
      this.address = heap.address(this.home);
    } else {
      if (!hostAccess) throw cannotCapture(device);
      this.block = memoryOf(device).allocate(bytes);
      this.home = NOWHERE;
      this.address = NOWHERE;
    }
  }

  /** Byte address in the heap. */
  get ptr(): number {
    if (this.block) throw notOnTheHeap(this.device);
    return this.address;
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
    return this.home < 0;
  }

  /** The numbers, for JavaScript to read and write. Throws DeviceError unless they lie in the heap. */
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
    lost.register(this, this.block ?? this.home, this);
  }

  retain(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders !== 0) return;
    if (this.watched) lost.unregister(this);
    if (this.block) this.block.free();
    else heap.free(this.home);
  }
}

/** No place in the heap; not negative, which would be one in a pool. */
const NOWHERE = 0;

const lost = new FinalizationRegistry<DeviceBlock | number>((place) => {
  if (typeof place === "number") heap.free(place);
  else place.free();
});

/** What a captured function meets that computes elsewhere than in the heap. */
export const cannotCapture = (device: DeviceName): StateError =>
  new StateError({
    rule: "capture() works on the CPU",
    got: `a tensor on ${device}`,
    fix: "Call the function as it is: there the device's queue already runs ahead of JavaScript",
  });
