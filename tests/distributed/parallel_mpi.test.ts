import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, describeMpi, jsonLines, mpirun, type Program } from "./mpirun.js";
import type { GradientJob } from "./parallel_jobs.js";
import { prepareRanks, type Ranks, valuesOf } from "./ranks.js";

let program: Program;
let threads: Ranks;
beforeAll(async () => {
  [program, threads] = await Promise.all([bundle("./parallel_program.ts"), prepareRanks()]);
}, 120_000);
afterAll(() => {
  program.dispose();
  threads.dispose();
});

const startsOf: Record<number, number[]> = { 2: [0, 9, 23], 4: [0, 7, 7, 20, 23] };

/** Differing in what lies beneath: one bucket or several, whole messages and such in two parts, layers that talk in between. */
const jobsFor = (size: number): [string, unknown][] => {
  const starts = startsOf[size]!;
  return [
    ["gradients", { starts, gradients: "sum", bucketBytes: 100 } satisfies GradientJob],
    ["gradients", { starts, gradients: "mean", quiet: 2 } satisfies GradientJob],
    ["trainNet", { norm: "mean", starts }],
    // Threads take long for gradients so large.
    ...(size === 2 ? [["trainWide", null] as [string, null]] : []),
  ];
};

/** What threads that share memory come to. Sums go by rank and in double with any library, so the bits are theirs. */
const expected = new Map<number, Promise<unknown[]>>();
const byThreads = (size: number): Promise<unknown[]> => {
  const known = expected.get(size);
  if (known) return known;
  const all = Promise.all(
    jobsFor(size).map(async ([job, input]) => valuesOf(await threads.run(size, job, Array(size).fill(input)))[0]),
  );
  expected.set(size, all);
  return all;
};

/** Without what depends on when messages come. */
const lasting = (results: unknown[]): unknown[] =>
  results.map((result) => ({ ...(result as object), hidden: undefined }));

describeMpi("data parallelism", (mpi) => {
  for (const size of [2, 4]) {
    test(`${size} ranks: the same bits as threads, on every rank`, async () => {
      const whole = lasting(await byThreads(size));
      const ended = await mpirun(mpi, size, program.path, { args: [JSON.stringify(jobsFor(size))] });
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      const [{ all }] = jsonLines<{ all: unknown[][] }>(ended) as [{ all: unknown[][] }];
      expect(all.length).toBe(size);
      for (const results of all) expect(lasting(results)).toEqual(JSON.parse(JSON.stringify(whole)));
    }, 90_000);
  }
});
