import { heap } from "../../memory/heap.js";
import type { KernelSet, StridedPlan } from "../kernel_set.js";

/** Calls visit(i, place) for element i of the contiguous side and its place on the strided side. */
function eachPlace(plan: StridedPlan, visit: (i: number, place: number) => void): void {
  const { shape, strides } = plan;
  const total = shape.reduce((product, n) => product * n, 1);
  const at = shape.map(() => 0);
  let place = plan.offset;
  for (let i = 0; i < total; i++) {
    visit(i, place);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += strides[axis]!;
      if (++at[axis]! < shape[axis]!) break;
      place -= strides[axis]! * shape[axis]!;
      at[axis] = 0;
    }
  }
}

export const movement: Pick<KernelSet, "gather" | "scatter" | "embedding" | "embeddingGrad"> = {
  gather(x, y, plan) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    eachPlace(plan, (i, place) => {
      ys[i] = xs[place]!;
    });
  },

  scatter(x, y, plan) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    eachPlace(plan, (i, place) => {
      ys[place] = xs[i]!;
    });
  },

  embedding(table, index, y, width) {
    const [rows, at, ys] = [heap.view(table), heap.view(index), heap.view(y)];
    for (let i = 0; i < at.length; i++) {
      for (let j = 0; j < width; j++) ys[i * width + j] = rows[at[i]! * width + j]!;
    }
  },

  embeddingGrad(index, dy, dTable, width) {
    const [at, dys, rows] = [heap.view(index), heap.view(dy), heap.view(dTable)];
    for (let i = 0; i < at.length; i++) {
      for (let j = 0; j < width; j++) rows[at[i]! * width + j]! += dys[i * width + j]!;
    }
  },
};
