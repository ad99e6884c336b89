import { describe, expect, test } from "vitest";
import { run } from "../../src/kernels/webgpu/device.js";
import type { Program } from "../../src/kernels/webgpu/program.js";
import { joinText, sumText } from "../../src/kernels/webgpu/wgsl_reduce.js";
import { memoryOf } from "../../src/memory/device.js";
import { Storage } from "../../src/memory/storage.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

/** y = what `code` makes of lane numbers, in two workgroups. */
async function lanesOf(lanes: number, code: string): Promise<number[]> {
  const program: Program = {
    name: "lanes",
    operands: { y: { access: "write" } },
    parameters: {},
    lanes,
    code: `${code}
fn run(group: u32, lane: u32) { y_set(group * LANES + lane, value(group * LANES + lane, lane)); }`,
  };
  const y = new Storage(2 * lanes, "float32", "webgpu");
  run(program, { operands: { y }, groups: 2 });
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

describe.skipIf(noWebGPU !== null)("lanes of a workgroup", () => {
  test.each([
    ...[1, 2, 4, 8, 16, 32, 64, 128, 256].map((width) => [256, width] as const),
    ...[1, 16, 32, 64].map((width) => [64, width] as const),
  ])("%d lanes by runs of %d: sums, twice over, and the largest", async (lanes, width) => {
    const sum = await lanesOf(
      lanes,
      `${sumText("sum", "f32", lanes, width)}
fn value(i: u32, lane: u32) -> f32 { let once = sum(f32(i), lane); return once + sum(f32(i) * 3.0, lane); }`,
    );
    expect(sum).toEqual(runs(lanes, width, (v) => 4 * v.reduce((a, b) => a + b)));
    const largest = await lanesOf(
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
    expect(await lanesOf(256, code)).toEqual(new Array(512).fill((255 * 256) / 2 + 256 + 64 * 2));
  });

  test("a width that no tree fits is refused", () => {
    expect(() => sumText("sum", "f32", 256, 48)).toThrow(/48 of 256/);
    expect(() => sumText("sum", "f32", 64, 128)).toThrow(/128 of 64/);
  });
});
