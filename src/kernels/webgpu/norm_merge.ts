import type { Slot } from "../../memory/heap.js";
import type { NormGrads } from "../kernel_set.js";
import { run } from "./device.js";
import type { Program } from "./program.js";

const LANES = 256;
/** Terms that a lane adds up before they join the rest: a long float32 sum one by one would lose digits. */
const CHUNK = 16;

const programs = new Map<number, Program>();

/** A run of `width` lanes for each element; neighbouring runs read neighbouring elements. */
function program(width: number): Program {
  let made = programs.get(width);
  if (!made) {
    const columns = LANES / width;
    made = {
      name: "norm_merge",
      operands: { partial: { access: "read" }, dWeight: { access: "write" }, dBias: { access: "write" } },
      parameters: { outer: "u32", elements: "u32", inner: "u32" },
      lanes: LANES,
      code: `
var<workgroup> slots: array<vec2f, LANES>;
fn run(group: u32, lane: u32) {
  let e = group * ${columns}u + lane % ${columns}u;
  let terms = select(0u, P.outer * P.inner, e < P.elements);
  var sum = vec2f(0.0);
  for (var t = lane / ${columns}u; t < terms; t += ${width * CHUNK}u) {
    var chunk = vec2f(0.0);
    for (var k = t; k < min(t + ${width * CHUNK}u, terms); k += ${width}u) {
      chunk += partial_at((k / P.inner * P.elements + e) * P.inner + k % P.inner);
    }
    sum += chunk;
  }
  slots[lane] = sum;
  workgroupBarrier();
  for (var half = LANES / 2u; half >= ${columns}u; half /= 2u) {
    if (lane < half) { slots[lane] += slots[lane + half]; }
    workgroupBarrier();
  }
  if (lane < ${columns}u && e < P.elements) {
    dWeight_set(e, slots[lane].x);
    dBias_set(e, slots[lane].y);
  }
}`,
    };
    programs.set(width, made);
  }
  return made;
}

/**
 * dWeight and dBias, each if wanted, from their sums over parts: pairs [outer, elements, inner], those of dWeight first. In
 * fixed order.
 */
export function mergeAffine(partial: Slot, out: NormGrads, outer: number, elements: number, inner: number): void {
  if (elements === 0) return;
  const width = Math.min(LANES, Math.max(8, 2 ** Math.ceil(Math.log2(Math.max(1, (outer * inner) / CHUNK)))));
  run(program(width), {
    operands: { partial, dWeight: out.dWeight, dBias: out.dBias },
    parameters: { outer, elements, inner },
    groups: Math.ceil(elements / (LANES / width)),
  });
}
