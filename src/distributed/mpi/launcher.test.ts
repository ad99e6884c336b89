import { expect, test } from "vitest";
import { launchedBy } from "./launcher.js";

test("launchers are known by what they give their processes", () => {
  const hydra = { PMI_SIZE: "4", PMI_RANK: "1", PMI_FD: "6", MPI_LOCALNRANKS: "2" };
  const slurm = { SLURM_STEP_NUM_TASKS: "8", SLURM_PROCID: "3" };
  expect(launchedBy({})).toBeNull();
  // A batch script of Slurm is no step.
  expect(launchedBy({ SLURM_NTASKS: "8", SLURM_PROCID: "0" })).toBeNull();
  expect(launchedBy({ ...slurm, OMPI_COMM_WORLD_SIZE: "2" })).toMatchObject({ size: 2, family: "Open MPI" });
  expect(launchedBy(hydra)).toMatchObject({ size: 4, family: "MPICH" });
  expect(launchedBy({ ...slurm, PMI_SIZE: "8" })).toMatchObject({ by: "srun", size: 8, family: null });
  expect(launchedBy({ PMI_SIZE: "3" })).toMatchObject({ size: 3, family: null });
  const port = { PMI_PORT: "node1:45461", PMI_ID: "0", MPI_LOCALNRANKS: "2" };
  expect(launchedBy(port)).toMatchObject({ size: 2, family: "MPICH", here: true });
});
