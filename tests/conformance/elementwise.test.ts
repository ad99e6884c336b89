import { awkwardSizes, conformance } from "./harness.js";

conformance(
  "elementwise",
  [...awkwardSizes, 70_001].map((n) => ({
    name: `fill, ${n} elements`,
    tolerance: 0,
    run: (kernels, make) => {
      const y = make.empty(n);
      kernels.fill(y, 2.5);
      return [y];
    },
  })),
);
