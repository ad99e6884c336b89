import { BlockAllocator } from "./allocator.js";

/** Where a pool gets its regions, and what it gives them back to. */
export interface Ground {
  allocate(bytes: number): number;
  free(block: number): void;
  address(block: number): number;
}

interface Region {
  readonly block: number;
  readonly address: number;
  readonly blocks: BlockAllocator;
}

/** Blocks of one region; 2^24 of them would fill 1 GiB with the smallest. */
const REGION = 2 ** 24;
const POOL = 2 ** 36;
const ALIGNMENT = 64;
/** A further region has at least this share of what the pool holds already. */
const GROWTH = 1 / 8;

const pools = new Map<number, MemoryPool>();
let made = 0;

/**
 * Memory set apart, whose blocks nobody outside is ever given: what a captured step leaves there is at the same
 * address when the step runs again. Blocks have negative ids, by which `poolOf` finds the pool.
 */
export class MemoryPool {
  private readonly regions: Region[] = [];
  private readonly id = made++;
  private live = 0;
  private closed = false;
  private held = 0;

  constructor(
    private readonly ground: Ground,
    /** What the first region has at least. */
    private readonly firstBytes: number,
  ) {
    pools.set(this.id, this);
  }

  /** Bytes taken from the ground. */
  get bytes(): number {
    return this.held;
  }

  allocate(bytes: number): number {
    for (let i = 0; i < this.regions.length; i++) {
      const block = this.regions[i]!.blocks.allocate(bytes);
      if (block >= 0) return this.idOf(i, block);
    }
    const least = this.regions.length === 0 ? this.firstBytes : this.held * GROWTH;
    const region = this.addRegion(Math.max(bytes, least));
    return this.idOf(this.regions.length - 1, region.blocks.allocate(bytes));
  }

  address(id: number): number {
    const at = -1 - id - this.id * POOL;
    const region = this.regions[Math.floor(at / REGION)]!;
    return region.address + region.blocks.offset(at % REGION);
  }

  free(id: number): void {
    const at = -1 - id - this.id * POOL;
    this.regions[Math.floor(at / REGION)]!.blocks.free(at % REGION);
    this.live--;
    if (this.closed) this.leaveIfEmpty();
  }

  /** Nothing more is allocated; the regions go back once the last block has. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.leaveIfEmpty();
  }

  private idOf(region: number, block: number): number {
    this.live++;
    return -1 - (this.id * POOL + region * REGION + block);
  }

  private addRegion(wanted: number): Region {
    const bytes = Math.ceil(wanted / ALIGNMENT) * ALIGNMENT;
    const block = this.ground.allocate(bytes);
    const region = { block, address: this.ground.address(block), blocks: new BlockAllocator(ALIGNMENT) };
    region.blocks.extend(bytes);
    this.held += bytes;
    this.regions.push(region);
    return region;
  }

  private leaveIfEmpty(): void {
    if (this.live > 0 || !pools.delete(this.id)) return;
    for (const { block } of this.regions) this.ground.free(block);
  }
}

/** The pool of a block with a negative id. */
export const poolOf = (id: number): MemoryPool => pools.get(Math.floor((-1 - id) / POOL))!;
