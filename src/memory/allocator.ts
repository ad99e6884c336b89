const NONE = -1;
/** Two-level size classes: 32 powers of two, each in 8 steps (the TLSF scheme of Masmano et al. 2004). */
const STEP_BITS = 3;
const STEPS = 1 << STEP_BITS;
const CLASSES = 32;

/**
 * Places blocks in one linear address range. Allocation and release take constant time; a freed block joins
 * free neighbours at once, so equal requests in a loop find equal places and the range does not fragment.
 *
 * All book-keeping lies outside the managed memory: a kernel that runs over its end cannot break it.
 * Sizes and addresses are counted in units of `alignment` bytes, so that 4 GiB fit 32-bit tables.
 */
export class BlockAllocator {
  /** Per block: place, size, address neighbours, free-list neighbours, and whether it is in use. */
  private start = new Int32Array(1024);
  private size = new Int32Array(1024);
  private before = new Int32Array(1024);
  private after = new Int32Array(1024);
  private previousFree = new Int32Array(1024);
  private nextFree = new Int32Array(1024);
  private used = new Uint8Array(1024);
  private spareIds: number[] = [];
  private ids = 0;
  private last = NONE;
  private end = 0;

  private readonly heads = new Int32Array(CLASSES * STEPS).fill(NONE);
  private classMask = 0;
  private readonly stepMasks = new Uint8Array(CLASSES);

  private usedUnits = 0;
  private usedBlocks = 0;

  constructor(readonly alignment = 64) {}

  get liveBytes(): number {
    return this.usedUnits * this.alignment;
  }

  get liveBlocks(): number {
    return this.usedBlocks;
  }

  get capacity(): number {
    return this.end * this.alignment;
  }

  /** A block of at least `bytes`, or -1 when no free block is large enough. */
  allocate(bytes: number): number {
    const want = Math.max(1, Math.ceil(bytes / this.alignment));
    const block = this.findFree(want);
    if (block === NONE) return NONE;
    this.unlinkFree(block);
    const rest = this.size[block]! - want;
    if (rest > 0) {
      const tail = this.newBlock(this.start[block]! + want, rest);
      this.before[tail] = block;
      this.after[tail] = this.after[block]!;
      if (this.after[block] !== NONE) this.before[this.after[block]!] = tail;
      else this.last = tail;
      this.after[block] = tail;
      this.size[block] = want;
      this.linkFree(tail);
    }
    this.used[block] = 1;
    this.usedUnits += want;
    this.usedBlocks++;
    return block;
  }

  free(block: number): void {
    this.used[block] = 0;
    this.usedUnits -= this.size[block]!;
    this.usedBlocks--;
    const right = this.after[block]!;
    if (right !== NONE && !this.used[right]) {
      this.unlinkFree(right);
      this.absorbNext(block, right);
    }
    const left = this.before[block]!;
    if (left !== NONE && !this.used[left]) {
      this.unlinkFree(left);
      this.absorbNext(left, block);
      block = left;
    }
    this.linkFree(block);
  }

  /** Adds `bytes` at the end of the range. */
  extend(bytes: number): void {
    const units = Math.floor(bytes / this.alignment);
    if (units <= 0) return;
    const block = this.newBlock(this.end, units);
    this.before[block] = this.last;
    if (this.last !== NONE) this.after[this.last] = block;
    this.last = block;
    this.end += units;
    this.used[block] = 1;
    this.usedUnits += units;
    this.usedBlocks++;
    this.free(block);
  }

  /** Bytes that must be added before a request of `bytes` is sure to succeed. */
  shortfall(bytes: number): number {
    // The search rounds up to a size class, so room for the rounded size is what makes success certain.
    const want = roundToClass(Math.max(1, Math.ceil(bytes / this.alignment)));
    const tail = this.last !== NONE && !this.used[this.last] ? this.size[this.last]! : 0;
    return Math.max(0, want - tail) * this.alignment;
  }

  offset(block: number): number {
    return this.start[block]! * this.alignment;
  }

  bytes(block: number): number {
    return this.size[block]! * this.alignment;
  }

  /** Sizes of the blocks in use, in bytes, with how many there are of each. Walks the whole range. */
  liveSizes(): Map<number, number> {
    const counts = new Map<number, number>();
    for (let block = this.last; block !== NONE; block = this.before[block]!) {
      if (this.used[block]) counts.set(this.bytes(block), (counts.get(this.bytes(block)) ?? 0) + 1);
    }
    return counts;
  }

  /** For tests: walks the range and says whether blocks tile it, with no two free neighbours. */
  consistent(): boolean {
    let block = this.last;
    let end = this.end;
    let freeUnits = 0;
    while (block !== NONE) {
      const left = this.before[block]!;
      if (this.start[block]! + this.size[block]! !== end) return false;
      if (left !== NONE && !this.used[left] && !this.used[block]) return false;
      if (!this.used[block]) freeUnits += this.size[block]!;
      end = this.start[block]!;
      block = left;
    }
    return end === 0 && freeUnits + this.usedUnits === this.end;
  }

  private findFree(want: number): number {
    // A block that a request of just this size left behind stands in the size's own class, mostly near the head.
    const same = this.scan(want, 8);
    if (same !== NONE) return same;
    const rounded = roundToClass(want);
    const slot = slotOf(rounded);
    const cls = slot >> STEP_BITS;
    const steps = this.stepMasks[cls]! & (0xff << (slot & (STEPS - 1)));
    if (steps !== 0) return this.heads[cls * STEPS + lowestBit(steps)]!;
    const classes = cls >= 31 ? 0 : this.classMask & (-1 << (cls + 1));
    if (classes === 0) return this.scan(want, Number.POSITIVE_INFINITY);
    const larger = lowestBit(classes);
    return this.heads[larger * STEPS + lowestBit(this.stepMasks[larger]!)]!;
  }

  /** Looks through the class that blocks of this size are filed under, whose members may be a little too small. */
  private scan(want: number, limit: number): number {
    let block = this.heads[slotOf(want)]!;
    for (let i = 0; block !== NONE && i < limit; i++) {
      if (this.size[block]! >= want) return block;
      block = this.nextFree[block]!;
    }
    return NONE;
  }

  private linkFree(block: number): void {
    const slot = slotOf(this.size[block]!);
    const cls = slot >> STEP_BITS;
    const head = this.heads[slot]!;
    this.previousFree[block] = NONE;
    this.nextFree[block] = head;
    if (head !== NONE) this.previousFree[head] = block;
    this.heads[slot] = block;
    this.stepMasks[cls]! |= 1 << (slot & (STEPS - 1));
    this.classMask |= 1 << cls;
  }

  private unlinkFree(block: number): void {
    const slot = slotOf(this.size[block]!);
    const previous = this.previousFree[block]!;
    const next = this.nextFree[block]!;
    if (previous !== NONE) this.nextFree[previous] = next;
    else this.heads[slot] = next;
    if (next !== NONE) this.previousFree[next] = previous;
    if (this.heads[slot] === NONE) {
      const cls = slot >> STEP_BITS;
      this.stepMasks[cls]! &= ~(1 << (slot & (STEPS - 1)));
      if (this.stepMasks[cls] === 0) this.classMask &= ~(1 << cls);
    }
  }

  private absorbNext(block: number, next: number): void {
    this.size[block]! += this.size[next]!;
    this.after[block] = this.after[next]!;
    if (this.after[next] !== NONE) this.before[this.after[next]!] = block;
    else this.last = block;
    this.spareIds.push(next);
  }

  private newBlock(start: number, size: number): number {
    const id = this.spareIds.pop() ?? this.ids++;
    if (id >= this.start.length) this.growTables();
    this.start[id] = start;
    this.size[id] = size;
    this.before[id] = NONE;
    this.after[id] = NONE;
    this.used[id] = 0;
    return id;
  }

  private growTables(): void {
    const longer = (table: Int32Array) => {
      const next = new Int32Array(table.length * 2);
      next.set(table);
      return next;
    };
    this.start = longer(this.start);
    this.size = longer(this.size);
    this.before = longer(this.before);
    this.after = longer(this.after);
    this.previousFree = longer(this.previousFree);
    this.nextFree = longer(this.nextFree);
    const used = new Uint8Array(this.used.length * 2);
    used.set(this.used);
    this.used = used;
  }
}

const lowestBit = (mask: number): number => 31 - Math.clz32(mask & -mask);

/** Where a free block of this size is filed: the largest class, times STEPS, plus step, that is not larger than it. */
function slotOf(units: number): number {
  if (units < STEPS) return units;
  const top = 31 - Math.clz32(units);
  return ((top - STEP_BITS + 1) << STEP_BITS) + ((units >> (top - STEP_BITS)) & (STEPS - 1));
}

/** The smallest class boundary at or above a size: every block filed there or higher is large enough. */
function roundToClass(units: number): number {
  if (units < STEPS) return units;
  const step = 1 << (31 - Math.clz32(units) - STEP_BITS);
  return Math.ceil(units / step) * step;
}
