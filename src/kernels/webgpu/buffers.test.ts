import { describe, expect, test } from "vitest";
import { DeviceError, OutOfMemoryError } from "../../base/errors.js";
import { type Buffer, BufferPool } from "./buffers.js";

const MIB = 1 << 20;

/** A device with room for so many bytes, which says so a turn later, as devices do. */
function deviceWith(room: number, limit = 2 ** 30) {
  let used = 0;
  let refusal: unknown = null;
  const device = {
    limits: { maxBufferSize: limit, maxStorageBufferBindingSize: limit },
    pushErrorScope() {
      refusal = null;
    },
    popErrorScope: () => Promise.resolve(refusal),
    createBuffer({ size }: { size: number }) {
      const fits = used + size <= room;
      if (fits) used += size;
      else refusal = { message: "no room" };
      return {
        destroy() {
          if (fits) used -= size;
        },
      };
    },
  } as unknown as GPUDevice;
  return { device, used: () => used };
}

const poolOf = (device: GPUDevice) => {
  const destroyed: Buffer[] = [];
  return { pool: new BufferPool(device, (b) => destroyed.push(b)), destroyed };
};

describe("BufferPool", () => {
  test("takes freed buffers again, counts what lives, and gives back what is spare", async () => {
    const { device, used } = deviceWith(64 * MIB);
    const { pool, destroyed } = poolOf(device);
    const [a, b] = [pool.take(MIB), pool.take(3 * MIB)];
    expect(pool.stats).toEqual({ liveBytes: 4 * MIB, peakBytes: 4 * MIB, reservedBytes: 4 * MIB, liveBlocks: 2 });
    a.free();
    expect(pool.take(MIB - 100)).toBe(a);
    a.free();
    b.free();
    expect(pool.stats).toEqual({ liveBytes: 0, peakBytes: 4 * MIB, reservedBytes: 4 * MIB, liveBlocks: 0 });
    pool.trim();
    expect(pool.stats.reservedBytes).toBe(0);
    expect(used()).toBe(0);
    expect(new Set(destroyed)).toEqual(new Set([a, b]));
    await pool.settled();
    expect(pool.takeFailure()).toBeNull();
  });

  test("one that there is no room for is told of once, throws where it is used, and is never used again", async () => {
    const { device } = deviceWith(8 * MIB);
    const { pool } = poolOf(device);
    const kept = pool.take(6 * MIB);
    const refused = pool.take(4 * MIB);
    expect(pool.takeFailure()).toBeNull();
    await pool.settled();
    const failure = pool.takeFailure();
    expect(failure).toBeInstanceOf(OutOfMemoryError);
    expect(failure!.message).toMatch(/a request for 4\.0 MiB with 10\.0 MiB alive/);
    expect(pool.takeFailure()).toBeNull();
    expect(() => refused.buffer).toThrow(OutOfMemoryError);
    expect(() => kept.buffer).not.toThrow();
    refused.free();
    kept.free();
    expect(pool.take(4 * MIB)).not.toBe(refused);
  });

  test("one that is freed before the refusal is known does not stay for reuse", async () => {
    const { device } = deviceWith(MIB);
    const { pool } = poolOf(device);
    const refused = pool.take(4 * MIB);
    refused.free();
    await pool.settled();
    expect(pool.stats.reservedBytes).toBe(0);
    expect(pool.take(4 * MIB)).not.toBe(refused);
  });

  test("where room was short once, spare buffers go before more is asked for", async () => {
    const { device } = deviceWith(10 * MIB);
    const { pool } = poolOf(device);
    const work = async (bytes: number) => {
      const buffer = pool.take(bytes);
      await pool.settled();
      return buffer;
    };
    (await work(8 * MIB)).free();
    expect((await work(6 * MIB)).failure).not.toBeNull();
    expect(pool.stats.reservedBytes).toBe(6 * MIB);
    // From now on the same does not fail: sizes that came before do not stand in the way.
    (await work(8 * MIB)).free();
    expect((await work(5 * MIB)).failure).toBeNull();
  });

  test("one larger than the device's limit names it; one just below is not rounded beyond it", () => {
    const limit = 100 * MIB - 4;
    const { device } = deviceWith(2 ** 31, limit);
    const { pool } = poolOf(device);
    expect(pool.take(limit).bytes).toBe(limit);
    expect(() => pool.take(limit + 4)).toThrow(DeviceError);
    expect(() => pool.take(limit + 4)).toThrow(/up to 104857596 bytes \(maxBufferSize\); got 104857600 bytes/);
  });

  test("a pool that has ended says why, and keeps nothing", () => {
    const { device, used } = deviceWith(64 * MIB);
    const { pool } = poolOf(device);
    const [a, b] = [pool.take(MIB), pool.take(MIB)];
    a.free();
    pool.close(new DeviceError("gone"));
    expect(() => b.buffer).toThrow("gone");
    b.free();
    expect(used()).toBe(0);
    expect(pool.stats.reservedBytes).toBe(0);
  });
});
