import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { NormGrads } from "../kernel_set.js";
import { ACTIVATION } from "./activation.js";
import { CONSTANTS, constantOperands, knownParameters } from "./column_norm_apply.js";
import { affineGrad, averagesOf, columnSums, GRADIENT, knownOf, type Source } from "./column_norm_sums.js";
import { channelsOf, LANES, WALK, walkOf } from "./column_norm_walk.js";
import { run } from "./device.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";

/** dx = (weight dy - average of that - xhat times average of its products with xhat) / std; frozen, weight dy / std. */
const slope: Program = {
  name: "column_norm_grad",
  operands: {
    ...{ x: { access: "read" }, dy: { access: "read" }, dx: { access: "write" }, ...constantOperands },
    averages: { access: "read", narrow: true },
  },
  parameters: knownParameters,
  lanes: LANES,
  wide: true,
  code: `${WALK}${CONSTANTS}${MATH}${ACTIVATION}${GRADIENT}
fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let k = known_of(w);
  var first = E(0.0);
  var second = E(0.0);
  if (HAS_averages) {
    for (var i = 0u; i < OWN; i++) {
      let at = 2u * statistic_of(w, i);
      first = put(first, i, averages_at(at));
      second = put(second, i, averages_at(at + 1u));
    }
    if (RUNS) {
      first = E(part(first, 0u));
      second = E(part(second, 0u));
    }
  }
  for (var left = w.loads; left > 0u; left--) {
    let at = next(&w);
    let p = pair_at(at, k);
    if (HAS_averages) {
      dx_set(at, k.root * ((k.weight * p.g - first) - (p.c * k.root) * second));
    } else {
      dx_set(at, (k.root * k.weight) * p.g);
    }
  }
}`,
};

/** Without averages the statistics are constants. */
function columnSlope(source: Source, averages: Slot | null, dx: Slot): void {
  const known = knownOf(source);
  const operands = { ...known.operands, dx, averages };
  const { groups, wide, parameters, constants } = walkOf(channelsOf(source.view), slope, operands);
  run(slope, {
    ...{ operands, groups, wide },
    ...{ parameters: { ...parameters, ...known.parameters }, constants: { ...constants, ...known.constants } },
  });
}

export function columnGrad(source: Source & { x: Slot }, { dx, dWeight, dBias }: NormGrads, frozen: boolean): void {
  const { weight, stats, view, eps, activation } = source;
  const { batch, channels, merge } = view;
  const moving = dx !== null && !frozen;
  const statistics = (batch * channels) / merge;
  const averages = moving ? new Storage(2 * statistics, "float32", "webgpu") : null;
  if (moving || dWeight || dBias) {
    const later = (moving && merge > 1) || ((dWeight || dBias) && batch > 1);
    const sums = later ? new Storage(2 * batch * channels, "float64", "webgpu") : null;
    const own = batch === 1 ? { dWeight, dBias } : {};
    const x = moving || dWeight || activation ? source.x : null;
    columnSums({ ...source, x }, { ...own, sums, averages: merge === 1 ? averages : null });
    if (sums && averages && merge > 1) averagesOf(sums, weight, stats, null, averages, view, eps);
    if (sums && batch > 1 && (dWeight || dBias)) affineGrad(sums, stats, view, eps, { dWeight, dBias });
    sums?.release();
  }
  if (dx) columnSlope({ ...source, x: moving || activation ? source.x : null }, averages, dx);
  averages?.release();
}

/** dx by sums and counts of more values than those of x. */
export function columnDx(source: Source, sums: Slot, counts: Slot, dx: Slot): void {
  const { weight, stats, view, eps } = source;
  const averages = new Storage((2 * view.batch * view.channels) / view.merge, "float32", "webgpu");
  averagesOf(sums, weight, stats, counts, averages, view, eps);
  columnSlope(source, averages, dx);
  averages.release();
}
