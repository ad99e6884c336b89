import { expect, test } from "vitest";
import { kernels } from "../../src/kernels/dispatch.js";
import type { ActivationOp } from "../../src/kernels/kernel_set.js";
import type { RowView } from "../../src/norm/views.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

interface Setting extends RowView {
  readonly about: string;
  readonly rms?: boolean;
  readonly weight?: boolean;
  readonly bias?: boolean;
  /** Outputs of backward; all by default. */
  readonly want?: readonly ("dx" | "dWeight" | "dBias")[];
  readonly eps?: number;
  readonly activation?: ActivationOp;
  readonly webgpu?: string;
  /** x + residual is normalized, and returned. Forward only. */
  readonly added?: boolean;
}

const layer = (rows: number, size: number): RowView => ({ rows, size, groups: 1, inner: 1 });
const group = (batch: number, groups: number, channels: number, inner: number): RowView => ({
  rows: batch * groups,
  size: (channels / groups) * inner,
  groups,
  inner,
});

/** With one value to a statistic dx is of the order of eps: for a small eps only the rounding of its terms would be left. */
const eps = (d: number): number => (d === 1 ? 1 : 1e-5);

const settings: Setting[] = [
  ...awkwardSizes.map((d) => ({ about: `layer, size ${d}`, ...layer(7, d), eps: eps(d) })),
  ...awkwardSizes.map((d) => ({ about: `rms, size ${d}`, ...layer(5, d), rms: true, bias: false, eps: eps(d) })),
  ...awkwardSizes.map((s) => ({ about: `group, inner ${s}`, ...group(3, 2, 6, s) })),
  ...awkwardSizes.map((s) => ({ about: `instance, inner ${s}`, ...group(2, 3, 3, s), eps: 0.1 })),
  { about: "layer on threads, short rows", ...layer(1001, 33) },
  { about: "layer on threads, blocks of rows", ...layer(77, 768) },
  { about: "layer on threads, rows one by one", ...layer(99, 1100) },
  { about: "layer on threads, rows of eight", ...layer(5003, 8) },
  { about: "layer on threads, rows of three", ...layer(9001, 3) },
  { about: "rms on threads, rows of seven", ...layer(3001, 7), rms: true, bias: false },
  { about: "layer of eight, no weight", ...layer(300, 8), weight: false, want: ["dx", "dBias"] },
  { about: "rms, rows by pairs", ...layer(37, 130), rms: true },
  { about: "layer, rows by pairs, groups", ...group(35, 3, 30, 1) },
  { about: "layer on threads, few rows", ...layer(6, 6272) },
  { about: "layer on threads, long rows", ...layer(35, 16_385) },
  { about: "layer on threads, long rows of groups", ...group(41, 2, 33_000, 1) },
  { about: "rms on threads", ...layer(600, 100), rms: true, bias: false },
  { about: "rms on threads, long rows, bias", ...layer(3, 20_001), rms: true },
  { about: "group on threads", ...group(5, 4, 16, 50 * 7) },
  { about: "instance on threads", ...group(4, 31, 31, 999) },
  { about: "group, no weight", ...group(3, 2, 4, 30), weight: false },
  { about: "group, no bias", ...group(3, 2, 4, 30), bias: false },
  { about: "group, neither", ...group(3, 2, 4, 30), weight: false, bias: false, want: ["dx"] },
  { about: "group without spatial axes", ...group(40, 5, 45, 1) },
  { about: "group of rms", ...group(3, 2, 4, 30), rms: true },
  { about: "layer, no weight", ...layer(9, 70), weight: false, want: ["dx", "dBias"] },
  { about: "layer, no bias", ...layer(9, 70), bias: false, want: ["dx", "dWeight"] },
  { about: "layer, neither", ...layer(9, 70), weight: false, bias: false, want: ["dx"] },
  { about: "rms, neither", ...layer(9, 70), rms: true, weight: false, bias: false, want: ["dx"] },
  { about: "layer, only dx", ...layer(201, 131), want: ["dx"] },
  { about: "layer, only dWeight and dBias", ...layer(201, 131), want: ["dWeight", "dBias"] },
  { about: "layer, only dWeight", ...layer(5, 1500), want: ["dWeight"] },
  { about: "layer, only dBias", ...layer(64, 20), want: ["dBias"] },
  { about: "group, only dx", ...group(3, 2, 4, 30), want: ["dx"] },
  { about: "group, only dWeight", ...group(3, 2, 4, 30), want: ["dWeight"] },
  { about: "no rows", ...layer(0, 5) },
  { about: "no rows, group", ...group(0, 2, 4, 9) },
];

const names = ["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"] as const;

/** Two of the activations meet each size on WebGPU, where one is an expression in a shader that goes over x in the same way for all. */
const atEverySize = new Set<ActivationOp>(["relu", "silu"]);
const anExpression = (op: ActivationOp): Pick<ConformanceCase, "webgpu"> =>
  atEverySize.has(op) ? {} : { webgpu: "as relu and silu at this size; groups of 1400 have each activation" };

/** Each activation over each way through the kernels. */
const activated: Setting[] = [
  ...[
    ...awkwardSizes.map((d, i) => ({ ...layer(7, d), eps: eps(d), activation: names[i % 7]! })),
    ...awkwardSizes.map((s, i) => ({ ...group(3, 2, 6, s), activation: names[(i + 3) % 7]! })),
    ...names.map((activation) => ({ ...layer(77, 768), activation })),
  ].map((s) => ({ ...s, ...anExpression(s.activation) })),
  ...names.map((activation) => ({ ...group(2, 4, 16, 50 * 7), activation })),
  { ...layer(35, 16_385), activation: "gelu" },
  { ...layer(6, 6272), activation: "silu" },
  { ...layer(6, 6272), activation: "relu", want: ["dWeight", "dBias"] },
  { ...layer(1001, 33), activation: "gelu" },
  { ...layer(600, 100), rms: true, bias: false, activation: "silu" },
  { ...layer(600, 100), rms: true, activation: "relu" },
  { ...layer(9, 70), weight: false, activation: "gelu", want: ["dx", "dBias"] },
  { ...layer(9, 70), weight: false, activation: "gelu", want: ["dx"] },
  { ...layer(9, 3000), weight: false, bias: false, activation: "silu", want: ["dx"] },
  { ...layer(9, 70), rms: true, weight: false, bias: false, activation: "silu", want: ["dx"] },
  { ...layer(300, 5), activation: "silu", want: ["dWeight"] },
  { ...layer(300, 8), activation: "gelu" },
  { ...layer(99, 1100), activation: "silu" },
  { ...group(40, 5, 45, 1), activation: "relu" },
  { ...group(3, 2, 4, 3000), activation: "leakyRelu" },
  { ...group(3, 2, 12, 3000), weight: false, activation: "gelu", want: ["dx", "dBias"] },
  { ...group(3, 2, 12, 30), bias: false, activation: "gelu", want: ["dWeight"] },
  { ...layer(0, 5), activation: "relu" },
]
  .map((s) => ({ ...(s as Setting), about: "" }))
  .map((s) => ({ ...s, about: describe(s) }));

function describe(s: Setting): string {
  const { rows, size, groups, inner, activation, rms, weight, bias } = s;
  const without = [rms && "mean", weight === false && "weight", bias === false && "bias"].filter(Boolean);
  return [`${activation ?? "added"} [${rows}, ${size}], ${groups} x ${inner}`, ...without.map((w) => `no ${w}`)]
    .concat(s.want ? `only ${s.want.join(" ")}` : [])
    .join(", ");
}

const added: Setting[] = [
  ...awkwardSizes.map((d) => ({ ...layer(7, d), about: "", eps: eps(d) })),
  ...awkwardSizes.map((d) => ({ ...layer(5, d), about: "", rms: true, bias: false, eps: eps(d) })),
  { ...layer(77, 768), about: "" },
  { ...layer(35, 16_385), about: "", rms: true },
].map((s) => ({ ...s, added: true, about: describe(s) }));

function runAdded(s: Setting): ConformanceCase["run"] {
  return (kernels, make) => {
    const x = make.normal(s.rows * s.size, 0.7, 2);
    const residual = make.normal(s.rows * s.size, 20, 2);
    const weight = make.normal(s.size, 1, 0.5);
    const bias = s.bias === false ? null : make.normal(s.size);
    const [y, sum, variance] = [make.empty(x.length), make.empty(x.length), make.empty(s.rows, "float64")];
    const stats = { mean: s.rms ? null : make.empty(s.rows, "float64"), variance };
    kernels.addRowNorm(x, residual, sum, weight, bias, y, stats, s, s.eps ?? 1e-5);
    return [y, sum, stats.mean, variance].filter((slot) => slot !== null);
  };
}

function run(s: Setting): ConformanceCase["run"] {
  return (kernels, make) => {
    const elements = (s.groups * s.size) / s.inner;
    const x = make.normal(s.rows * s.size, 0.7, 2);
    const dy = make.normal(s.rows * s.size);
    const weight = s.weight === false ? null : make.normal(elements, 1, 0.5);
    const bias = s.bias === false ? null : make.normal(elements);
    const want = s.want ?? ["dx", "dWeight", "dBias"];
    const [y, variance] = [make.empty(s.rows * s.size), make.empty(s.rows, "float64")];
    const stats = { mean: s.rms ? null : make.empty(s.rows, "float64"), variance };
    const out = {
      dx: want.includes("dx") ? make.empty(s.rows * s.size) : null,
      dWeight: want.includes("dWeight") ? make.empty(elements) : null,
      dBias: want.includes("dBias") ? make.empty(elements) : null,
    };
    const through = s.activation ? { op: s.activation, alpha: 0.3, bias } : null;
    kernels.rowNorm(x, weight, bias, y, stats, s, s.eps ?? 1e-5, through);
    kernels.rowNormGrad(x, dy, weight, stats, out, s, s.eps ?? 1e-5, through);
    return [y, stats.mean, variance, out.dx, out.dWeight, out.dBias].filter((slot) => slot !== null);
  };
}

conformance("row_norm", [
  ...settings.map((s) => ({ name: s.about, tolerance: 1e-6, run: run(s) })),
  ...activated.map((s) => ({ name: s.about, tolerance: 1e-6, run: run(s), ...(s.webgpu ? { webgpu: s.webgpu } : {}) })),
  // The sum is rounded to float32 before its statistics are taken; the reference works in float64 throughout.
  ...added.map((s) => ({ name: s.about, tolerance: 2e-6, run: runAdded(s) })),
]);

test("rows without elements have no statistics, and an empty affine", () => {
  const make = new Maker("float32", 1);
  const empty = () => make.empty(0);
  const stats = { mean: make.empty(3, "float64"), variance: make.empty(3, "float64") };
  kernels.rowNorm(empty(), empty(), empty(), empty(), stats, layer(3, 0), 1e-5);
  kernels.rowNormGrad(
    empty(),
    empty(),
    empty(),
    stats,
    { dx: empty(), dWeight: empty(), dBias: empty() },
    layer(3, 0),
    1e-5,
  );
  expect([...stats.variance.view]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  make.release();
});
