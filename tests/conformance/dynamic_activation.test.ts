import { awkwardSizes, type ConformanceCase, conformance } from "./harness.js";

const shapes: [number, number][] = [...awkwardSizes.map((n): [number, number] => [5, n]), [0, 5], [700, 33], [9, 4099]];

const cases: ConformanceCase[] = (["tanh", "erf"] as const).flatMap((op) =>
  shapes.flatMap(([rows, size]) =>
    [true, false].flatMap((affine): ConformanceCase[] => {
      const plan = { op, rows, size, alpha: 0.75, shift: 0.25 };
      const name = `${op} of [${rows}, ${size}]${affine ? "" : ", no affine"}`;
      return [
        {
          name,
          tolerance: 5e-7,
          run: (kernels, make) => {
            const y = make.empty(rows * size);
            const [weight, bias] = affine ? [make.normal(size), make.normal(size)] : [null, null];
            kernels.dynamicActivation(make.normal(rows * size, 0, 2), weight, bias, y, plan);
            return [y];
          },
        },
        {
          name: `gradient of ${name}`,
          tolerance: 5e-7,
          run: (kernels, make) => {
            const [x, dy] = [make.normal(rows * size, 0, 2), make.normal(rows * size, 0.5)];
            const [dWeight, dBias] = affine ? [make.empty(size), make.empty(size)] : [null, null];
            const [dx, sums] = [make.empty(rows * size), make.empty(2, "float64")];
            const weight = affine ? make.uniform(size, 0.5, 1.5) : null;
            kernels.dynamicActivationGrad(x, dy, weight, { dx, dWeight, dBias }, sums, plan);
            return [dx, sums, ...(dWeight && dBias ? [dWeight, dBias] : [])];
          },
        },
      ];
    }),
  ),
);

conformance("dynamic activation", [
  ...cases,
  {
    name: "infinities and NaN",
    tolerance: 5e-7,
    run: (kernels, make) => {
      const x = make.from([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 0, 1e30]);
      const y = make.empty(5);
      kernels.dynamicActivation(x, null, null, y, { op: "tanh", rows: 1, size: 5, alpha: 2, shift: 0 });
      return [y];
    },
  },
]);
