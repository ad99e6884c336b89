import { beforeAll, describe, expect, inject, test } from "vitest";
import type { DType } from "../../src/base/dtype.js";
import { UnsupportedKernel } from "../../src/base/errors.js";
import { Random } from "../../src/base/random.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { setThreads, startThreads, workersReady } from "../../src/kernels/threads/pool.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { fromHalf, toHalf } from "../../src/kernels/webgpu/numbers.js";
import { Storage } from "../../src/memory/storage.js";
import { measured } from "./measured.js";
import { Mirror, noFloat16, noWebGPU } from "./webgpu_mirror.js";

/** Sizes around the SIMD width and the unrolled loops. */
export const awkwardSizes = [1, 3, 4, 5, 15, 16, 17, 31, 33, 1023, 1025] as const;

/** Makes inputs: the same float32-representable values for each backend, in the backend's own float type. */
export class Maker {
  private readonly random: Random;
  readonly made: Storage[] = [];

  constructor(
    readonly float: DType,
    seed: number,
    /** Rounds what it makes to float16. */
    private readonly half = false,
  ) {
    this.random = new Random(seed);
  }

  normal(length: number, mean = 0, std = 1): Storage {
    return this.from(Array.from({ length }, () => Math.fround(mean + std * this.random.normal())));
  }

  uniform(length: number, low: number, high: number): Storage {
    return this.from(Array.from({ length }, () => Math.fround(low + (high - low) * this.random.uniform())));
  }

  /** Of a type that is named, as statistics are, the values are kept as they are. */
  from(values: ArrayLike<number>, dtype?: DType): Storage {
    const s = this.empty(values.length, dtype);
    if (this.half && dtype === undefined) s.view.set(Float64Array.from(values, rounded));
    else s.view.set(values);
    return s;
  }

  ints(values: ArrayLike<number>): Storage {
    return this.from(values, "int32");
  }

  /** An output; filled with NaN (or -77 for int32), so that an element that no kernel wrote shows. */
  empty(length: number, dtype: DType = this.float): Storage {
    const s = new Storage(length, dtype);
    s.view.fill(dtype === "int32" ? -77 : Number.NaN);
    this.made.push(s);
    return s;
  }

  release(): void {
    for (const s of this.made) s.release();
  }
}

export interface ConformanceCase {
  readonly name: string;
  /** Largest allowed max|y - y64| / max|y64| of each output. Say why where it is above 1e-6. */
  readonly tolerance: number;
  /** The same on WebGPU: 1e-6, or `tolerance` where that is more, unless given; or why the case is not run there. */
  readonly webgpu?: number | string;
  /** What float16 storage costs more than one rounding of the result, relative to the largest value; or why it is not tried. */
  readonly float16?: number | string;
  /** Runs one kernel and returns its outputs. */
  run(kernels: KernelSet, make: Maker): Storage[];
}

/** The reference, which notes the kernels that a case calls. */
function watched(called: Set<string>): KernelSet {
  const get = (kernels: KernelSet, name: string) => {
    called.add(name);
    return kernels[name as keyof KernelSet];
  };
  return new Proxy(reference, { get } as ProxyHandler<KernelSet>);
}

/** The nearest half. */
export const rounded = (v: number): number => fromHalf(toHalf(v));

function outputs(c: ConformanceCase, kernels: KernelSet, float: DType, half = false): Float64Array[] {
  const make = new Maker(float, 42, half);
  try {
    return c.run(kernels, make).map((s) => Float64Array.from(s.view));
  } finally {
    make.release();
  }
}

/** max|y - want| / max|want|; where want is not finite, y must be the same kind of not finite. */
export function relativeError(y: ArrayLike<number>, want: ArrayLike<number>): number {
  let top = 0;
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    if (Number.isFinite(want[i]!)) top = Math.max(top, Math.abs(want[i]!));
  }
  for (let i = 0; i < want.length; i++) {
    const same = Object.is(y[i], want[i]) || y[i] === want[i];
    const error = same ? 0 : Math.abs(y[i]! - want[i]!) / (top || 1);
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}

/** Whether two arrays hold the same bits, those of NaN among them. */
function sameBits(a: Float64Array, b: Float64Array): boolean {
  const [x, y] = [a, b].map((values) => new BigUint64Array(values.buffer));
  return x!.length === y!.length && x!.every((bits, i) => bits === y![i]);
}

/** Largest allowed error of a case that runs on WebGPU. */
const onWebGPU = ({ webgpu, tolerance }: ConformanceCase): number => Number(webgpu ?? Math.max(tolerance, 1e-6));

async function webgpuOutputs(c: ConformanceCase, half = false): Promise<Float64Array[]> {
  const make = new Maker("float32", 42, half);
  const mirror = new Mirror(make.made, () => half);
  try {
    const results = c.run(mirror.kernels, make);
    await mirror.readBack();
    return results.map((s) => Float64Array.from(s.view));
  } finally {
    mirror.release();
    make.release();
  }
}

/** As vitest.float16.config.ts sets it. */
const halves = inject("float16");
const share = inject("share");
/** Half of the distance of two halves, relative to their size. */
const HALF_STEP = 2 ** -11;
/** What is wanted, with infinity where a half overflows, and what came where it is less than half of the smallest half off. */
const storable = (want: Float64Array, got: Float64Array): Float64Array =>
  want.map((v, i) => (rounded(v) === got[i] || Math.abs(v - got[i]!) <= 2 ** -25 ? got[i]! : v));

/** A case with inputs, outputs and all between stored as float16, against the reference on the same halves. */
async function inFloat16(c: ConformanceCase, skip: (why: string) => void): Promise<void> {
  const want = outputs(c, reference, "float64", true);
  const got = await webgpuOutputs(c, true).catch((error: unknown) => {
    if (error instanceof UnsupportedKernel) return error.message;
    throw error;
  });
  if (typeof got === "string") return skip(got);
  for (const [i, y] of got.entries()) {
    const limit = Number(c.float16 ?? 0) + HALF_STEP + onWebGPU(c);
    expect(relativeError(y, storable(want[i]!, y)), `output ${i}`).toBeLessThanOrEqual(limit);
  }
}

/** Each case on the WASM backend, and on WebGPU where there is one, against the reference in float64, and its bits with one thread against three. */
export function conformance(family: string, all: readonly ConformanceCase[]): void {
  const draw = new Random(family.length);
  const cases = all.filter((_, i) => draw.uniform() < share || i === 0);
  if (halves) {
    describe.skipIf(noFloat16 !== null)(
      `conformance: ${family} in float16${noFloat16 ? ` (${noFloat16})` : ""}`,
      () => {
        const tried = cases.filter((c) => typeof (c.float16 ?? c.webgpu) !== "string");
        for (const c of tried) test(c.name, ({ skip }) => inFloat16(c, skip));
      },
    );
    return;
  }
  describe(`conformance: ${family}`, () => {
    const single = new Map<ConformanceCase, Float64Array[]>();

    beforeAll(async () => {
      setThreads(1);
      for (const c of cases) single.set(c, outputs(c, wasm as KernelSet, "float32"));
      setThreads(3);
      startThreads();
      while (workersReady() < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    });

    for (const c of cases) {
      const wanted = () => {
        const called = new Set<string>();
        const want = outputs(c, watched(called), "float64");
        const errorsOf = (got: readonly Float64Array[]) => {
          expect(got.length).toBe(want.length);
          return got.map((y, i) => relativeError(y, want[i]!));
        };
        return { errorsOf, name: [...called].join(", ") };
      };

      test(c.name, ({ task }) => {
        const { errorsOf, name } = wanted();
        const one = single.get(c)!;
        const three = outputs(c, wasm as KernelSet, "float32");
        const errors = errorsOf(one);
        task.meta.measured = measured({ kind: "kernel", family, name, on: "wasm" }, errors);
        for (const [i, error] of errors.entries()) {
          expect(error, `output ${i}`).toBeLessThanOrEqual(c.tolerance);
          expect(sameBits(three[i]!, one[i]!), `output ${i}: bits for 1 and 3 threads`).toBe(true);
        }
      });

      if (typeof c.webgpu === "string") continue;
      test(`${c.name}, webgpu`, async ({ skip, task }) => {
        skip(noWebGPU !== null, noWebGPU ?? "");
        const { errorsOf, name } = wanted();
        const got = await webgpuOutputs(c).catch((error: unknown) => {
          if (error instanceof UnsupportedKernel) return error.message;
          throw error;
        });
        if (typeof got === "string") return skip(got);
        const errors = errorsOf(got);
        task.meta.measured = measured({ kind: "kernel", family, name, on: "webgpu" }, errors);
        for (const [i, error] of errors.entries()) expect(error, `output ${i}`).toBeLessThanOrEqual(onWebGPU(c));
      });
    }
  });
}
