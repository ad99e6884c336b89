import type { MatmulPlan } from "../../src/kernels/kernel_set.js";
import { blasConformance } from "./blas.js";
import { type ConformanceCase, conformance } from "./harness.js";

type Case = Omit<MatmulPlan, "aBatchStride" | "bBatchStride" | "bias"> & {
  readonly bias: boolean;
  readonly repeat: "a" | "b" | "";
};

function matmulCase(o: Partial<Case> & Pick<Case, "m" | "n" | "k">): ConformanceCase {
  const c: Case = { batch: 1, transposeA: false, transposeB: false, bias: false, repeat: "", ...o };
  const { batch, m, n, k } = c;
  const letters = `${c.transposeA ? "A'" : "A"}${c.transposeB ? "B'" : "B"}${c.bias ? " + bias" : ""}`;
  return {
    name: `${letters}, ${batch} x ${m} x ${n} x ${k}${c.repeat && `, one ${c.repeat}`}`,
    // Rounding k float32 products and sums is a random walk: its error grows with the square root of k.
    tolerance: 1e-6 * Math.max(1, Math.sqrt(k) / 8),
    run: (kernels, make) => {
      const a = make.normal((c.repeat === "a" ? 1 : batch) * m * k);
      const b = make.normal((c.repeat === "b" ? 1 : batch) * k * n);
      const y = make.empty(batch * m * n);
      kernels.matmul(a, b, y, {
        ...c,
        aBatchStride: c.repeat === "a" ? 0 : m * k,
        bBatchStride: c.repeat === "b" ? 0 : k * n,
        bias: c.bias ? make.normal(n) : null,
      });
      return [y];
    },
  };
}

const sizes = [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33];
const layouts = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({ transposeA, transposeB })));
const cases: ConformanceCase[] = [];
for (const [i, layout] of layouts.entries()) {
  // Each size meets each other size in two of its three places, in each layout; bias and batches come in turn.
  for (const [x, m] of sizes.entries()) {
    for (const [y, n] of sizes.entries()) {
      const turn = x + y + i;
      const k = sizes[(x * 5 + y + i) % sizes.length]!;
      const batch = [1, 3, 1, 2][turn % 4]!;
      const repeat = (["", "a", "b"] as const)[turn % 3]!;
      cases.push(matmulCase({ m, n, k, batch, repeat, bias: turn % 2 === 0, ...layout }));
    }
  }
  cases.push(
    // Several blocks of k; tails of rows, columns and k; work for threads.
    matmulCase({ m: 131, n: 77, k: 301, bias: true, ...layout }),
    matmulCase({ m: 64, n: 200, k: 513, batch: 2, repeat: "b", ...layout }),
    // k beyond one packed span of A, in few rows.
    matmulCase({ m: 5, n: 19, k: 8195, bias: true, ...layout }),
    // More rows than one packed span of A holds, and more matrices than one span holds.
    matmulCase({ m: 1045, n: 5, k: 1030, bias: true, ...layout }),
    matmulCase({ m: 70, n: 17, k: 2111, batch: 7, ...layout }),
    // The largest tiles of a GPU, more than eight down.
    matmulCase({ m: 1410, n: 1509, k: 11, bias: true, ...layout }),
    // One row or one column.
    matmulCase({ m: 1, n: 1033, k: 259, bias: true, ...layout }),
    matmulCase({ m: 1033, n: 1, k: 259, bias: true, ...layout }),
    matmulCase({ m: 1, n: 37, k: 65, batch: 3, ...layout }),
    matmulCase({ m: 37, n: 1, k: 65, batch: 3, repeat: "a", bias: true, ...layout }),
    matmulCase({ m: 1, n: 1, k: 1025, ...layout }),
    // Nothing to sum, nothing to write.
    matmulCase({ m: 5, n: 6, k: 0, ...layout }),
    matmulCase({ m: 5, n: 40, k: 0, batch: 2, bias: true, ...layout }),
    matmulCase({ m: 0, n: 6, k: 3, ...layout }),
    matmulCase({ m: 4, n: 0, k: 3, ...layout }),
    matmulCase({ m: 4, n: 2, k: 3, batch: 0, ...layout }),
  );
}

conformance("matmul", cases);
blasConformance("matmul", cases);
