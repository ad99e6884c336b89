import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import type { KernelSet, StridedPlan } from "../kernel_set.js";
import { kernelArgs, launch, listArgs, run } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";
import { kept } from "./kept.js";
import { kernelIndex } from "./module.js";

const TRANSPOSE = kernelIndex("transpose");
const COPY_STRIDED = kernelIndex("copy_strided");

/** Elements a unit of a line-by-line copy. */
const UNIT = 4096;
/** Nanoseconds an element. */
const COPY_WORK = 0.15;
const TRANSPOSE_WORK = 0.4;
/** Tiles of the transpose kernel. */
const A_TILE = 16;
const B_TILE = 64;
const MAX_RANK = 8;

interface Axis {
  n: number;
  /** Strides of x and of y. */
  x: number;
  y: number;
}

/** The axes of a copy without those of length 1, and with neighbours merged where both sides step on evenly. */
function mergedAxes(shape: readonly number[], xStrides: readonly number[], yStrides: readonly number[]): Axis[] {
  const axes: Axis[] = [];
  for (const [i, n] of shape.entries()) {
    if (n === 1) continue;
    const axis = { n, x: xStrides[i]!, y: yStrides[i]! };
    const last = axes.at(-1);
    if (last && last.x === axis.x * n && last.y === axis.y * n) axes[axes.length - 1] = { ...axis, n: last.n * n };
    else axes.push(axis);
  }
  return axes;
}

function contiguousStrides(shape: readonly number[]): number[] {
  const strides: number[] = new Array(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** What a copy between two strided places needs beside addresses. */
interface Copy {
  readonly kernel: number;
  readonly units: number;
  readonly work: number;
  /** Arguments after the addresses. */
  readonly args: readonly number[];
}

const NOTHING: Copy = { kernel: 0, units: 0, work: 0, args: [] };

function planCopy(axes: Axis[], total: number): Copy {
  if (total === 0) return NOTHING;
  if (axes.length > MAX_RANK) {
    throw new UnsupportedKernel({
      rule: `Copies with strides have a WASM kernel for at most ${MAX_RANK} axes that do not merge`,
      got: String(axes.length),
      fix: "The reference kernel takes it",
    });
  }
  const args = (list: readonly Axis[]) => [
    list.length,
    UNIT,
    total,
    ...list.map((axis) => axis.n),
    ...list.map((axis) => axis.x),
    ...list.map((axis) => axis.y),
  ];
  const a = axes.find((axis) => axis.x === 1 && axis.n >= 4);
  const b = axes.find((axis) => axis.y === 1 && axis.n >= 4);
  // A stride of 0 is one element spread out (or, in y, one place): that goes line by line.
  if (a && b && a !== b && a.y !== 0 && b.x !== 0) {
    const outer = axes.filter((axis) => axis !== a && axis !== b);
    const tiles = Math.ceil(a.n / A_TILE) * Math.ceil(b.n / B_TILE);
    const units = (total / (a.n * b.n)) * tiles;
    return { kernel: TRANSPOSE, units, work: total * TRANSPOSE_WORK, args: args([...outer, a, b]) };
  }
  const padding = Array.from({ length: Math.max(0, 3 - axes.length) }, () => ({ n: 1, x: 0, y: 0 }));
  const units = Math.ceil(total / UNIT);
  return { kernel: COPY_STRIDED, units, work: total * COPY_WORK, args: args([...padding, ...axes]) };
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

const sameStrides = (a: StridedPlan, b: StridedPlan): boolean =>
  sameNumbers(a.shape, b.shape) && sameNumbers(a.strides, b.strides);

const gatherCopy = kept(sameStrides, ({ shape, strides }) =>
  planCopy(mergedAxes(shape, strides, contiguousStrides(shape)), product(shape)),
);

const scatterCopy = kept(sameStrides, ({ shape, strides }) => {
  const total = product(shape);
  if (total > 0 && strides.some((stride, axis) => stride === 0 && shape[axis]! > 1)) {
    throw new UnsupportedKernel("scatter to a stride of 0 writes a place more than once; reference keeps the order");
  }
  return planCopy(mergedAxes(shape, contiguousStrides(shape), strides), total);
});

/** `from` and `to` point at the first element of each place. */
function copy(from: number, to: number, c: Copy): void {
  const a = kernelArgs();
  a[0] = from;
  a[1] = to;
  listArgs(2, c.args);
  run(c.kernel, c.units, c.work);
}

function fourBytesOnly(kernel: string, x: Slot, y: Slot): void {
  if (x.dtype !== "float64" && x.dtype === y.dtype) return;
  throw new UnsupportedKernel({
    rule: `${kernel} has a WASM kernel for elements of 4 bytes of one type`,
    got: `${x.dtype} and ${y.dtype}`,
    fix: "The reference kernel takes them",
  });
}

const product = (shape: readonly number[]): number => shape.reduce((total, n) => total * n, 1);

export const movement: Pick<KernelSet, "gather" | "scatter" | "embedding" | "embeddingGrad"> = {
  gather(x, y, plan: StridedPlan) {
    fourBytesOnly("gather", x, y);
    copy(x.ptr + 4 * plan.offset, y.ptr, gatherCopy(plan));
  },

  scatter(x, y, plan: StridedPlan) {
    fourBytesOnly("scatter", x, y);
    copy(x.ptr, y.ptr + 4 * plan.offset, scatterCopy(plan));
  },

  embedding(table, index, y, width) {
    float32Only("embedding", table, y);
    launch("embedding", index.length, y.length * COPY_WORK, [table.ptr, index.ptr, y.ptr, width]);
  },

  embeddingGrad(index, dy, dTable, width) {
    float32Only("embeddingGrad", dy, dTable);
    // Each owner reads all indices: more owners the more a row outweighs that. A power of two, to be masked with.
    const owners = width >= 256 ? 16 : width >= 128 ? 8 : 4;
    launch("embedding_grad", owners, dy.length, [index.ptr, dy.ptr, dTable.ptr, width, index.length, owners]);
  },
};
