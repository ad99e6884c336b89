import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loopback } from "../../src/base/communicator.js";
import { Random } from "../../src/base/random.js";
import { relativeError } from "../conformance/harness.js";
import { bundle, describeMpi, type InstalledMpi, mpirun, type Program } from "./mpirun.js";
import { type LayerJob, type LayerResult, layerSteps } from "./sync_jobs.js";
import { type Training, train } from "./sync_training.js";

let program: Program;
beforeAll(async () => {
  program = await bundle("./sync_training_program.ts");
}, 60_000);
afterAll(() => program.dispose());

/** Of the plain layer; its kin differ in single steps, if anywhere. */
const STEPS = 50;
const KIN_STEPS = 12;
const unequal = { 2: [0.8, 0.2], 4: [0.4, 0, 0.5, 0.1] } as const;

/** Largest difference in the losses, relative to the first one; and in each parameter and buffer in the end, relative to its largest. */
interface Limits {
  readonly losses: number;
  readonly state: number;
}
/** Measured: 2e-15 and 5e-15, a few roundings of float64; more where a network is less forgiving. */
const double: Limits = { losses: 1e-12, state: 1e-12 };
/** Measured: 4e-7 and 9e-7. A rounding is 6e-8; gradients are rounded on each rank before they are added up. */
const single: Limits = { losses: 5e-6, state: 1e-5 };

const trainings: readonly (readonly [Omit<Training, "shares" | "steps">, Limits])[] = [
  [{ norm: "SyncBatchNorm", optimizer: "Adam", dtype: "float64" }, double],
  [{ norm: "SyncBatchNorm", optimizer: "momentum SGD", dtype: "float32", affineGradients: "sum" }, single],
  [{ norm: "BatchRenorm", optimizer: "momentum SGD", dtype: "float64", affineGradients: "sum" }, double],
  [{ norm: "MaskedBatchNorm normalize", optimizer: "momentum SGD", dtype: "float64" }, double],
  ...(["ActNorm", "VirtualBatchNorm", "SwitchableNorm", "EvoNormB0", "PowerNorm"] as const).map(
    (norm) => [{ norm, optimizer: "momentum SGD", dtype: "float64" }, double] as const,
  ),
  [{ norm: "InPlaceActivatedBatchNorm", optimizer: "momentum SGD", dtype: "float64", affineGradients: "sum" }, double],
];

/** What each rank of a job leaves behind. */
async function run<T>(mpi: InstalledMpi, ranks: number, what: string, input: unknown): Promise<T[]> {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-sync-"));
  try {
    const ended = await mpirun(mpi, ranks, program.path, { args: [folder, what, JSON.stringify(input)] });
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    return Array.from({ length: ranks }, (_, r) => JSON.parse(readFileSync(join(folder, `${r}.json`), "utf8")));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

type Trained = ReturnType<typeof train>;

const known = new Map<string, Trained>();
/** What one process comes to, which no test changes. */
function alone(job: Training): Trained {
  const key = JSON.stringify({ ...job, shares: [] });
  const result = known.get(key) ?? train(loopback, { ...job, shares: [1] });
  known.set(key, result);
  return result;
}

describeMpi("a small CNN over ranks learns what one process learns", (mpi) => {
  for (const ranks of [2, 4] as const) {
    test(`${ranks} ranks, unequal parts, ${STEPS} steps`, async () => {
      const jobs: Training[] = trainings.map(([t]) => {
        return { ...t, shares: unequal[ranks], steps: t.norm === "SyncBatchNorm" ? STEPS : KIN_STEPS };
      });
      const got = await run<Trained[]>(mpi, ranks, "train", jobs);
      for (const [i, job] of jobs.entries()) {
        const { losses, state } = alone(job);
        for (const r of got) expect(r[i]).toEqual(got[0]![i]);
        const limits = trainings[i]![1];
        expect(relativeError(got[0]![i]!.losses, losses), job.norm).toBeLessThanOrEqual(limits.losses);
        for (const [t, want] of state.entries()) {
          expect(relativeError(got[0]![i]!.state[t]!, want), `${job.norm}, tensor ${t}`).toBeLessThanOrEqual(
            limits.state,
          );
        }
      }
    });
  }
});

describeMpi("statistics within a part of the ranks", (mpi) => {
  /** Samples of each of four ranks; none on the third. */
  const shards = [2, 3, 0, 4];
  const random = new Random(6);
  const numbers = (length: number) => Array.from({ length }, () => random.normal());
  const jobOf = (samples: number) => ({
    dtype: "float64" as const,
    options: { momentum: 0.3, affineGradients: "sum" as const },
    features: 2,
    steps: [0, 1].map(() => ({ shape: [samples, 2, 3], x: numbers(samples * 6), dy: numbers(samples * 6) })),
  });
  const jobs = shards.map(jobOf);
  /** The batches of some ranks as one. */
  const joined = (members: readonly number[]): LayerJob => {
    const steps = [0, 1].map((i) => {
      const all = (of: "x" | "dy") => Float64Array.from(members.flatMap((r) => jobs[r]!.steps[i]![of]));
      return { shape: [members.reduce((n, r) => n + shards[r]!, 0), 2, 3], x: all("x"), dy: all("dy") };
    });
    return { ...jobs[0]!, steps };
  };

  for (const [what, color] of [
    ["split", [0, 7, 7, 0]],
    // One machine, so all ranks.
    ["node", [0, 0, 0, 0]],
  ] as const) {
    test(what, async () => {
      const got = await run<LayerResult & { size: number }>(mpi, 4, what, { jobs, color });
      for (const c of new Set(color)) {
        const members = [0, 1, 2, 3].filter((r) => color[r] === c);
        const want = layerSteps(loopback, joined(members));
        const first = got[members[0]!]!;
        expect(first.size).toBe(members.length);
        for (const [i, step] of want.steps.entries()) {
          for (const of of ["y", "dx"] as const) {
            const all = members.flatMap((r) => got[r]!.steps[i]![of]);
            expect(relativeError(all, step[of])).toBeLessThanOrEqual(1e-13);
          }
          expect(relativeError(first.steps[i]!.weight, step.weight)).toBeLessThanOrEqual(1e-13);
        }
        expect(relativeError(first.runningMean, want.runningMean)).toBeLessThanOrEqual(1e-13);
        expect(relativeError(first.runningVar, want.runningVar)).toBeLessThanOrEqual(1e-13);
        for (const r of members) {
          expect([got[r]!.runningMean, got[r]!.runningVar]).toEqual([first.runningMean, first.runningVar]);
          expect(got[r]!.steps.map((s) => s.weight)).toEqual(first.steps.map((s) => s.weight));
        }
      }
    });
  }
});
