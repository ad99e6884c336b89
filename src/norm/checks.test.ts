import { describe, expect, test } from "vitest";
import { ShapeError } from "../base/errors.js";
import {
  checkBatchStatistics,
  checkChannels,
  checkGroups,
  checkInstanceStatistics,
  checkNormalizedShape,
  checkPerChannel,
  checkRank,
} from "./checks.js";
import { batchView, instanceView } from "./views.js";

const batch = (shape: number[], axis = 1) => checkBatchStatistics("BatchNorm", shape, batchView(shape, axis));
const instance = (shape: number[], tracked: boolean) =>
  checkInstanceStatistics("InstanceNorm1d", shape, instanceView(shape), tracked);

describe("edge cases of normalization, before any arithmetic", () => {
  test("one value per channel in training names the shape and what to do", () => {
    expect(() => batch([1, 3])).toThrow(ShapeError);
    expect(() => batch([1, 3, 1, 1])).toThrow(/\[1, 3, 1, 1\].*dropLast.*eval\(\)/);
    expect(() => batch([1, 1, 3], -1)).toThrow(ShapeError);
    batch([2, 3]);
    batch([1, 3, 2]);
    batch([1, 2, 3], -1);
  });

  test("an empty batch in training", () => {
    expect(() => batch([0, 3, 4])).toThrow(/empty batch; got an input of shape \[0, 3, 4\].*eval\(\)/);
    expect(() => batch([4, 3, 0])).toThrow(ShapeError);
  });

  test("one spatial value for instance statistics", () => {
    expect(() => instance([8, 3, 1], false)).toThrow(/more than one value for each sample and channel.*\[8, 3, 1\]/);
    instance([1, 3, 2], true);
  });

  test("an empty batch has instance statistics, none, but moves no running ones", () => {
    instance([0, 3, 4], false);
    expect(() => instance([0, 3, 4], true)).toThrow(ShapeError);
    expect(() => instance([2, 3, 0], true)).toThrow(ShapeError);
  });

  test("wrong channel count says where the right one may be", () => {
    expect(() => checkChannels("BatchNorm2d", [2, 5, 5, 3], 1, 3)).toThrow(/3 channels on axis 1; got 5.*Axis 3 has 3/);
    expect(() => checkChannels("BatchNorm2d", [2, 5, 5, 4], 1, 3)).toThrow(/Make the layer for 5 channels/);
    expect(() => checkChannels("BatchNorm2d", [2, 5], 3, 5)).toThrow(ShapeError);
    checkChannels("BatchNorm2d", [2, 5, 5, 3], -1, 3);
  });

  test("normalizedShape", () => {
    expect(checkNormalizedShape("LayerNorm", 3)).toEqual([3]);
    expect(checkNormalizedShape("LayerNorm", [3, 4])).toEqual([3, 4]);
    for (const bad of [[], [0], [2.5], "3", null, undefined, -1]) {
      expect(() => checkNormalizedShape("LayerNorm", bad)).toThrow(ShapeError);
    }
  });

  test("rank, groups and per-channel tensors", () => {
    expect(() => checkRank("BatchNorm1d", [2, 3, 4, 5], [2, 3], "[N, C] or [N, C, L]")).toThrow(
      /rank 2 or 3 \(\[N, C\] or \[N, C, L\]\); got rank 4, shape \[2, 3, 4, 5\]/,
    );
    checkRank("BatchNorm1d", [2, 3], [2, 3], "");
    expect(() => checkGroups("GroupNorm", 4, 6)).toThrow(ShapeError);
    checkGroups("GroupNorm", 3, 6);
    expect(() => checkPerChannel("running_mean", [3, 1], 3)).toThrow(/running_mean .* shape \[3\]; got \[3, 1\]/);
    checkPerChannel("running_mean", [3], 3);
  });
});
