import { UnsupportedKernel } from "../../base/errors.js";
import { heap } from "../../memory/heap.js";
import type { KernelSet, Slots } from "../kernel_set.js";
import { kernelArgs, run } from "../threads/pool.js";
import { kernelIndex } from "./module.js";

/** Elements a unit: four arrays of 8 KiB stay in a first-level cache. */
const UNIT = 2048;
/** A long sum is cut where `reduce` cuts it, so that both give the same bits. */
const SUM_UNIT = 16384;

const SGD = kernelIndex("sgd");
const ADAM = kernelIndex("adam");
const RMSPROP = kernelIndex("rmsprop");
const SUM_SQUARES = kernelIndex("sum_squares_of");
const SCALE = kernelIndex("scale_of");

/** Nanoseconds an element. */
const LIGHT_WORK = 0.125;
const SGD_WORK = 0.4;
const ROOT_WORK = 0.8;

/** Doubles of a row, as in assembly/lib_segments.ts. */
const ROW = 7;
const PLACES = 5;

interface Table {
  readonly block: number;
  readonly address: number;
  readonly units: number;
  readonly elements: number;
}

/** Writes the table of places on the heap; the caller frees the block. Throws where a slot is not float32. */
function tableOf(kernel: string, unit: number, ...lists: readonly (Slots | null)[]): Table {
  for (const list of lists) {
    for (let i = 0; list && i < list.length; i++) {
      if (list[i]!.dtype !== "float32") throw new UnsupportedKernel(`${kernel} has a WASM kernel for float32 only`);
    }
  }
  const first = lists[0]!;
  const block = heap.allocate(Math.max(1, first.length) * ROW * 8);
  const address = heap.address(block);
  const to = heap.doubles;
  let [units, elements] = [0, 0];
  for (let i = 0, at = address / 8; i < first.length; i++, at += ROW) {
    const { length } = first[i]!;
    for (let j = 0; j < PLACES; j++) to[at + j] = lists[j]?.[i]?.ptr ?? 0;
    units += Math.ceil(length / unit);
    elements += length;
    to[at + PLACES] = length;
    to[at + PLACES + 1] = units;
  }
  return { block, address, units, elements };
}

type Updates = Pick<KernelSet, "sgd" | "adam" | "rmsprop" | "sumSquaresOf" | "scaleOf">;

export const optimizers: Updates = {
  sgd(p, g, velocity, o) {
    const table = tableOf("sgd", UNIT, p, g, velocity);
    const a = kernelArgs();
    a[0] = table.address;
    a[1] = UNIT;
    a[2] = velocity ? 1 : 0;
    a[3] = o.lr;
    a[4] = o.momentum;
    a[5] = 1 - o.dampening;
    a[6] = o.weightDecay;
    a[7] = o.maximize ? -1 : 1;
    a[8] = o.nesterov ? 1 : 0;
    a[9] = o.first ? 1 : 0;
    run(SGD, table.units, table.elements * SGD_WORK);
    heap.free(table.block);
  },

  adam(p, g, m, v, o) {
    const table = tableOf("adam", UNIT, p, g, m, v);
    const a = kernelArgs();
    a[0] = table.address;
    a[1] = UNIT;
    a[2] = o.lr / o.correction1;
    a[3] = o.beta2;
    a[4] = 1 - o.beta1;
    a[5] = 1 - o.beta2;
    a[6] = o.eps;
    a[7] = o.decoupled ? 0 : o.weightDecay;
    a[8] = o.decoupled ? 1 - o.lr * o.weightDecay : 1;
    a[9] = 1 / Math.sqrt(o.correction2);
    a[10] = o.maximize ? -1 : 1;
    run(ADAM, table.units, table.elements * ROOT_WORK);
    heap.free(table.block);
  },

  rmsprop(p, g, square, average, velocity, o) {
    const table = tableOf("rmsprop", UNIT, p, g, square, average, velocity);
    const a = kernelArgs();
    a[0] = table.address;
    a[1] = UNIT;
    a[2] = average ? 1 : 0;
    a[3] = velocity ? 1 : 0;
    a[4] = o.lr;
    a[5] = o.alpha;
    a[6] = 1 - o.alpha;
    a[7] = o.eps;
    a[8] = o.weightDecay;
    a[9] = o.momentum;
    a[10] = o.maximize ? -1 : 1;
    run(RMSPROP, table.units, table.elements * ROOT_WORK);
    heap.free(table.block);
  },

  sumSquaresOf(xs, sums) {
    const table = tableOf("sumSquaresOf", SUM_UNIT, xs);
    const partial = heap.allocate(Math.max(1, table.units) * 8);
    const a = kernelArgs();
    a[0] = table.address;
    a[1] = SUM_UNIT;
    a[2] = heap.address(partial);
    run(SUM_SQUARES, table.units, table.elements * LIGHT_WORK);
    const from = heap.doubles;
    let at = heap.address(partial) / 8;
    for (let i = 0; i < xs.length; i++) {
      let sum = 0;
      for (let left = Math.ceil(xs[i]!.length / SUM_UNIT); left > 0; left--) sum += from[at++]!;
      heap.write(sums, i, sum);
    }
    heap.free(partial);
    heap.free(table.block);
  },

  scaleOf(xs, factor) {
    const table = tableOf("scaleOf", UNIT, xs);
    const a = kernelArgs();
    a[0] = table.address;
    a[1] = UNIT;
    a[2] = factor;
    run(SCALE, table.units, table.elements * LIGHT_WORK);
    heap.free(table.block);
  },
};
