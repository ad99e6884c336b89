import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ShapeError } from "../base/errors.js";
import { contiguousStrides, numberOfElements } from "../base/shape.js";
import {
  batchView,
  groupView,
  instanceView,
  layerView,
  type NormCase,
  statisticCount,
  statisticSize,
} from "./views.js";

/** Statistic and affine index of each element, by what the two views say of themselves. */
function indicesOf({ kernel, view }: NormCase, total: number): [number, number][] {
  return Array.from({ length: total }, (_, i) => {
    if (kernel === "row") {
      const row = Math.floor(i / view.size);
      const affine = (row % view.groups) * (view.size / view.inner) + Math.floor((i % view.size) / view.inner);
      return [row, affine];
    }
    const c = Math.floor(i / view.inner) % view.channels;
    const b = Math.floor(i / (view.inner * view.channels * view.outer));
    return [b * (view.channels / view.merge) + Math.floor(c / view.merge), c];
  });
}

/** The same by the definition: sample and channel of each element, read from its coordinates. */
function expectedIndices(shape: readonly number[], axis: number, groups: number | null): [number, number][] {
  const strides = contiguousStrides(shape);
  const channels = shape[axis]!;
  return Array.from({ length: numberOfElements(shape) }, (_, i) => {
    const n = Math.floor(i / strides[0]!);
    const c = Math.floor(i / strides[axis]!) % channels;
    if (groups === null) return [c, c];
    return [n * groups + Math.floor((c * groups) / channels), c];
  });
}

const lengths = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 5 });

describe("canonical views put each element where the definition puts it", () => {
  test("batch, on every axis", () => {
    fc.assert(
      fc.property(lengths, fc.nat(4), (shape, a) => {
        const axis = a % shape.length;
        expect(indicesOf(batchView(shape, axis), numberOfElements(shape))).toEqual(expectedIndices(shape, axis, null));
        expect(batchView(shape, axis - shape.length)).toEqual(batchView(shape, axis));
      }),
    );
  });

  test("group and instance, on every axis behind the batch", () => {
    fc.assert(
      fc.property(lengths, fc.nat(4), fc.integer({ min: 1, max: 4 }), (lens, a, groups) => {
        const axis = 1 + (a % (lens.length - 1));
        const shape = lens.map((d, i) => (i === axis ? d * groups : d));
        const total = numberOfElements(shape);
        const view = groupView(shape, groups, axis);
        expect(indicesOf(view, total)).toEqual(expectedIndices(shape, axis, groups));
        expect(statisticCount(view)).toBe(shape[0]! * groups);
        expect(statisticCount(view) * statisticSize(view)).toBe(total);
        expect(indicesOf(instanceView(shape, axis), total)).toEqual(expectedIndices(shape, axis, shape[axis]!));
      }),
    );
  });

  test("layer: rows of the last axes", () => {
    expect(layerView([2, 3, 4, 5], [4, 5])).toEqual({
      kernel: "row",
      view: { rows: 6, size: 20, groups: 1, inner: 1 },
    });
    expect(layerView([4, 5], [4, 5]).view.rows).toBe(1);
  });

  test("which kernel: channels behind the batch are rows, channels further back are columns", () => {
    expect(groupView([2, 6, 5, 7], 3)).toEqual({ kernel: "row", view: { rows: 6, size: 70, groups: 3, inner: 35 } });
    expect(groupView([2, 5, 7, 6], 3, -1)).toEqual({
      kernel: "column",
      view: { batch: 2, outer: 35, channels: 6, inner: 1, merge: 2 },
    });
    expect(groupView([2, 5, 6, 7], 3, 2)).toEqual({
      kernel: "column",
      view: { batch: 2, outer: 5, channels: 6, inner: 7, merge: 2 },
    });
    expect(batchView([2, 5, 7, 6], -1).view).toEqual({ batch: 1, outer: 70, channels: 6, inner: 1, merge: 1 });
    expect(groupView([2, 6], 3).kernel).toBe("row");
  });

  test("empty batches and empty spatial axes keep their shape", () => {
    expect(statisticSize(batchView([0, 3, 4]))).toBe(0);
    expect(statisticCount(batchView([0, 3, 4]))).toBe(3);
    expect(statisticCount(groupView([0, 4, 3], 2))).toBe(0);
    expect(statisticSize(groupView([2, 4, 0], 2))).toBe(0);
  });
});

describe("views that cannot be", () => {
  test("groups that do not divide the channels, with those that do", () => {
    expect(() => groupView([2, 6, 4], 4)).toThrow(ShapeError);
    expect(() => groupView([2, 6, 4], 4)).toThrow(
      /4 groups for 6 channels of \[2, 6, 4\]\. These divide 6: 1, 2, 3, 6/,
    );
    expect(() => groupView([2, 6, 4], 0)).toThrow(ShapeError);
    expect(() => groupView([2, 6, 4], 1.5)).toThrow(ShapeError);
  });

  test("no channel axis", () => {
    expect(() => groupView([6], 2)).toThrow(/rank 2 or more/);
    expect(() => groupView([6, 4], 2, 0)).toThrow(/Axis 0 is the batch/);
    expect(() => groupView([6, 4], 2, -2)).toThrow(/Axis 0 is the batch/);
    expect(() => batchView([6, 4], 2)).toThrow(ShapeError);
    expect(() => batchView([], 0)).toThrow(ShapeError);
  });

  test("normalizedShape that is not the end of the shape", () => {
    for (const normalized of [[3], [4, 4], [2, 3, 4, 5, 6], []]) {
      expect(() => layerView([2, 3, 4, 5], normalized)).toThrow(ShapeError);
    }
    expect(() => layerView([2, 3, 4], [3])).toThrow(/normalizedShape \[3\]; got an input of shape \[2, 3, 4\]/);
  });
});
