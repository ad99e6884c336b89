import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, describeMpi, jsonLines, mpirun, type Program } from "./mpirun.js";

let program: Program;
beforeAll(async () => {
  program = await bundle("./mpi_jobs.ts");
}, 60_000);
afterAll(() => program.dispose());

describeMpi("ranks", (mpi) => {
  for (const ranks of [2, 4]) {
    test(`${ranks} ranks: each finds the others`, async () => {
      const ended = await mpirun(mpi, ranks, program.path, { args: ["sizes"] });
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      const sizes = jsonLines<{ rank: number; size: number }>(ended).sort((a, b) => a.rank - b.rank);
      expect(sizes).toEqual(Array.from({ length: ranks }, (_, rank) => ({ rank, size: ranks })));
    });
  }
});
