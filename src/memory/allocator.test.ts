import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockAllocator } from "./allocator.js";

const withRoom = (bytes: number): BlockAllocator => {
  const blocks = new BlockAllocator(64);
  blocks.extend(bytes);
  return blocks;
};

describe("BlockAllocator", () => {
  test("whatever is allocated and freed: no overlap, aligned, tiled without two free neighbours", () => {
    const action = fc.record({ bytes: fc.integer({ min: 0, max: 20_000 }), freeOne: fc.boolean(), pick: fc.nat() });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
        const blocks = withRoom(1 << 18);
        const live: number[] = [];
        for (const { bytes, freeOne, pick } of actions) {
          if (freeOne && live.length > 0) blocks.free(live.splice(pick % live.length, 1)[0]!);
          else {
            const block = blocks.allocate(bytes);
            if (block >= 0) {
              expect(blocks.bytes(block)).toBeGreaterThanOrEqual(bytes);
              live.push(block);
            }
          }
        }
        const spans = live.map((b) => [blocks.offset(b), blocks.offset(b) + blocks.bytes(b)] as const);
        spans.sort((a, b) => a[0] - b[0]);
        for (const [i, [from]] of spans.entries()) {
          expect(from % 64).toBe(0);
          if (i > 0) expect(from).toBeGreaterThanOrEqual(spans[i - 1]![1]);
        }
        expect(blocks.consistent()).toBe(true);
        for (const block of live) blocks.free(block);
        expect(blocks.liveBytes).toBe(0);
        expect(blocks.allocate(1 << 18), "all free blocks have joined into one").toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test("equal requests find equal places", () => {
    const blocks = withRoom(1 << 16);
    const round = () => [100, 5000, 64].map((bytes) => blocks.allocate(bytes));
    const first = round();
    const places = first.map((b) => blocks.offset(b));
    for (const b of first) blocks.free(b);
    expect(round().map((b) => blocks.offset(b))).toEqual(places);
  });

  test("refuses what does not fit, and fits after extending by the shortfall", () => {
    for (const bytes of [65, 4097, 100_000, 1 << 20, 3 << 26]) {
      const blocks = withRoom(64);
      expect(blocks.allocate(bytes)).toBe(-1);
      blocks.extend(blocks.shortfall(bytes));
      expect(blocks.allocate(bytes)).toBeGreaterThanOrEqual(0);
    }
  });

  test("covers 4 GiB", () => {
    const blocks = withRoom(2 ** 32 - 65536);
    const all = blocks.allocate(2 ** 32 - 65536 - 64);
    expect(all).toBeGreaterThanOrEqual(0);
    const rest = blocks.allocate(64);
    expect(blocks.offset(rest)).toBe(2 ** 32 - 65536 - 64);
  });
});
