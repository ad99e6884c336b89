import { describe, expect, test } from "vitest";
import { Gpu, theGpu } from "../../src/kernels/webgpu/device.js";
import type { Program } from "../../src/kernels/webgpu/program.js";
import type { Subgroups } from "../../src/kernels/webgpu/subgroups.js";
import { joinText, sumText } from "../../src/kernels/webgpu/wgsl_reduce.js";
import { memoryOf } from "../../src/memory/device.js";
import { Storage } from "../../src/memory/storage.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

/** y = what `code` makes of lane numbers, in two workgroups. */
async function lanesOf(subgroups: Subgroups | null, lanes: number, code: string): Promise<number[]> {
  const program: Program = {
    name: "lanes",
    operands: { y: { access: "write" } },
    parameters: {},
    lanes,
    code: `${code}
fn run(group: u32, lane: u32) { y_set(group * LANES + lane, value(group * LANES + lane, lane)); }`,
  };
  const y = new Storage(2 * lanes, "float32", "webgpu");
  const gpu = new Gpu(theGpu().device, subgroups);
  gpu.run(program, { operands: { y }, groups: 2 });
  gpu.flush();
  const got = await memoryOf("webgpu").read({ block: y.block!, start: 0, length: y.length, dtype: "float32" });
  y.release();
  return [...got];
}

/** For each lane, what `join` makes of its run of `width` lanes. */
const runs = (lanes: number, width: number, join: (values: number[]) => number): number[] =>
  Array.from({ length: 2 * lanes }, (_, i) => {
    const first = i - (i % width);
    return join(Array.from({ length: width }, (_, k) => first + k));
  });

/**
 * Ways to join: through workgroup memory; in subgroups of the size that the device has; and as where a shader only learns their size
 * when it runs.
 */
const found = noWebGPU === null ? theGpu().subgroups : null;
const ways: [string, Subgroups | null][] = [
  ["in memory", null],
  ...(found ? ([["in subgroups", found]] satisfies [string, Subgroups][]) : []),
  ...(found ? ([["in subgroups of some size", { least: 4, most: 128 }]] satisfies [string, Subgroups][]) : []),
];

describe.skipIf(noWebGPU !== null).each(ways)("lanes of a workgroup, %s", (_, subgroups) => {
  test.each([
    ...[1, 2, 4, 8, 16, 32, 64, 128, 256].map((width) => [256, width] as const),
    ...[1, 16, 32, 64].map((width) => [64, width] as const),
  ])("%d lanes by runs of %d: sums, twice over, and the largest", async (lanes, width) => {
    const sum = await lanesOf(
      subgroups,
      lanes,
      `${sumText("sum", "f32", lanes, width)}
fn value(i: u32, lane: u32) -> f32 { let once = sum(f32(i), lane); return once + sum(f32(i) * 3.0, lane); }`,
    );
    expect(sum).toEqual(runs(lanes, width, (v) => 4 * v.reduce((a, b) => a + b)));
    const largest = await lanesOf(
      subgroups,
      lanes,
      `${joinText("largest", "f32", lanes, width, "max(a, b)")}
fn value(i: u32, lane: u32) -> f32 { return largest(f32((i * 7919u) % 509u), lane); }`,
    );
    expect(largest).toEqual(runs(lanes, width, (v) => Math.max(...v.map((i) => (i * 7919) % 509))));
  });

  test("two and four sums at once", async () => {
    const code = `${sumText("two", "vec2f", 256)}
${sumText("four", "vec4f", 256, 64)}
fn value(i: u32, lane: u32) -> f32 {
  let v = f32(lane);
  let a = two(vec2f(v, 1.0), lane);
  let b = four(vec4f(1.0, v, 2.0, -1.0), lane);
  return a.x + a.y + b.x + b.z + b.w;
}`;
    expect(await lanesOf(subgroups, 256, code)).toEqual(new Array(512).fill((255 * 256) / 2 + 256 + 64 * 2));
  });

  test("all lanes of a run get the same bits where a join rounds by its order, each time", async () => {
    const code = `${joinText("join", "vec2f", 256, 32, "vec2f(a.x + b.x, (a.y + b.y * 0.7) * 1.0001 + a.x * b.y)")}
fn value(i: u32, lane: u32) -> f32 { let v = join(vec2f(sin(f32(i)), cos(f32(i) * 3.0)), lane); return v.y; }`;
    const [once, again] = [await lanesOf(subgroups, 256, code), await lanesOf(subgroups, 256, code)];
    expect(again).toEqual(once);
    for (const [i, v] of once.entries()) expect(v).toBe(once[i - (i % 32)]);
    expect(new Set(once).size).toBe(16);
  });

  test("a width that no tree fits is refused", () => {
    expect(() => sumText("sum", "f32", 256, 48)).toThrow(/48 of 256/);
    expect(() => sumText("sum", "f32", 64, 128)).toThrow(/128 of 64/);
  });
});
