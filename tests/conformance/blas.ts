import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.js";
import { UnsupportedKernel } from "../../src/base/errors.js";
import { setBlas } from "../../src/kernels/blas/index.js";
import { blas } from "../../src/kernels/blas/kernels.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { setThreads, startThreads, workersReady } from "../../src/kernels/threads/pool.js";
import { type ConformanceCase, Maker, relativeError } from "./harness.js";

const { library, message } = setBlas("auto");
/** Says in a test's name why it is skipped. */
export const blasOrReason = library ? "BLAS" : message;
export const describeBlas: typeof describe | typeof describe.skip = library ? describe : describe.skip;

/** Each case on the BLAS backend against the reference in float64, in both float types, with one thread and with three. */
export function blasConformance(family: string, cases: readonly ConformanceCase[]): void {
  if (!library) {
    test.skip(`conformance of ${family} with ${blasOrReason}`);
    return;
  }
  describe(`conformance of ${family} with ${blasOrReason}`, () => {
    let taken = 0;
    // What BLAS does not take is computed by the reference, so that cases of several kernels run to their end.
    const names = Object.keys(blas) as ("matmul" | "conv" | "convInputGrad" | "convWeightGrad")[];
    const chosen = names.map((name) => [
      name,
      (...args: unknown[]) => {
        try {
          (blas[name] as (...args: unknown[]) => void)(...args);
          taken++;
        } catch (error) {
          if (!(error instanceof UnsupportedKernel)) throw error;
          (reference[name] as (...args: unknown[]) => void)(...args);
        }
      },
    ]);
    const kernels: KernelSet = { ...reference, ...Object.fromEntries(chosen) };
    const outputs = (c: ConformanceCase, set: KernelSet, float: DType) => {
      const make = new Maker(float, 42);
      try {
        return c.run(set, make).map((s) => Float64Array.from(s.view));
      } finally {
        make.release();
      }
    };

    for (const threads of [1, 3]) {
      describe(`${threads} threads`, () => {
        beforeAll(async () => {
          setThreads(threads);
          startThreads();
          while (workersReady() < threads - 1) await new Promise((resolve) => setTimeout(resolve, 2));
        });
        for (const c of cases) {
          test(c.name, () => {
            const want = outputs(c, reference, "float64");
            // In float64 the order of the sum alone differs from the reference.
            for (const [float, tolerance] of [["float32", c.tolerance] as const, ["float64", 1e-13] as const]) {
              for (const [i, y] of outputs(c, kernels, float).entries()) {
                expect(relativeError(y, want[i]!), `${float}, output ${i}`).toBeLessThanOrEqual(tolerance);
              }
            }
          });
        }
      });
    }

    afterAll(() => expect(taken, "calls that BLAS took").toBeGreaterThan(cases.length / 2));
  });
}
