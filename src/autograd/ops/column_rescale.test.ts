import { awayFromZero, checkOps, normal, type OpCase, positive } from "../../../tests/conformance/op_harness.js";
import { filterResponseNorm } from "./filter_response_norm.js";
import { meanVarianceNorm } from "./mean_variance_norm.js";
import { unitRows } from "./unit_vectors.js";
import { vectorNorm } from "./vector_norm.js";

const shape = [3, 5, 4, 3];
const axes = [[0], [1], [2], [3], [1, 2], [0, 2], [1, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2, 3]];

checkOps("vector_norm", [
  ...axes.map(
    (list): OpCase => ({
      name: `p 2 over [${list}]`,
      inputs: [normal(shape)],
      apply: (x) => vectorNorm(x!, { p: 2, axes: list, eps: 1e-12 }),
      twice: false,
    }),
  ),
  ...[0.5, 1, 1.5, 3, Number.POSITIVE_INFINITY].map(
    (p): OpCase => ({
      name: `p ${p}`,
      // For p < 1 the slope at 0 is infinite.
      inputs: [p < 1 ? awayFromZero([3, 5, 4]) : normal([3, 5, 4])],
      apply: (x) => vectorNorm(x!, { p, axes: [1], eps: 1e-12 }),
    }),
  ),
  { name: "p 0", inputs: [normal([3, 5, 4])], apply: (x) => vectorNorm(x!, { p: 0, axes: [1], eps: 1e-12 }) },
  {
    name: "some vectors below eps",
    inputs: [normal([7, 5])],
    apply: (x) => vectorNorm(x!, { p: 2, axes: [1], eps: 2 }),
    twice: false,
  },
]);

checkOps("scale_norm", [
  {
    name: "some vectors below eps",
    inputs: [normal([9, 7]), positive([1])],
    apply: (x, scale) => unitRows({ x: x!, scale: scale! }, { size: 7, eps: 2.5 }),
  },
  {
    name: "[4, 3, 7]",
    inputs: [normal([4, 3, 7]), positive([1])],
    apply: (x, scale) => unitRows({ x: x!, scale: scale! }, { size: 7, eps: 1e-5 }),
  },
]);

checkOps(
  "mean_variance_norm",
  axes.map(
    (list): OpCase => ({
      name: `over [${list}]`,
      inputs: [normal(shape, 1)],
      apply: (x) => meanVarianceNorm(x!, { axes: list, eps: 0.1 }),
      twice: false,
    }),
  ),
);

checkOps(
  "filter_response_norm",
  [1, 2, -1].map(
    (axis): OpCase => ({
      name: `axis ${axis}`,
      inputs: [normal([3, 4, 4, 4], 0.5), normal([4]), normal([4]), positive([1])],
      apply: (x, weight, bias, eps) =>
        filterResponseNorm({ x: x!, weight: weight!, bias: bias!, eps: eps! }, { axis, eps: 0 }),
      twice: false,
    }),
  ),
);
