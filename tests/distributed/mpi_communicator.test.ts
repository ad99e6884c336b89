import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, describeMpi, jsonLines, mpirun, type Program } from "./mpirun.js";

let program: Program;
beforeAll(async () => {
  program = await bundle("./mpi_jobs.ts");
}, 60_000);
afterAll(() => program.dispose());

interface Said {
  readonly rank: number;
  readonly hash?: string;
}

/** By number of ranks: the bits that the first MPI gave. */
const bits = new Map<number, string[]>();

describeMpi("calls over MPI", (mpi) => {
  for (const ranks of [2, 4]) {
    test(`${ranks} ranks: every call, alone and with others under way, in groups and parts of them`, async () => {
      const ended = await mpirun(mpi, ranks, program.path, { args: ["calls"] });
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      const said = jsonLines<Said>(ended).sort((a, b) => a.rank - b.rank);
      expect(said.filter((s) => !s.hash)).toEqual(
        Array.from({ length: ranks }, (_, rank) => {
          const others = rank === 0 ? [-1, -1] : [rank - 1, ranks - 1];
          const groups = [Math.floor(rank / 2), ranks / 2, rank, ranks, ...others];
          return { rank, size: ranks, groups, turned: true, again: true };
        }),
      );
      const hashes = said.filter((s) => s.hash).map((s) => s.hash!);
      expect(hashes).toHaveLength(ranks);
      if (!bits.has(ranks)) bits.set(ranks, hashes);
      expect(hashes).toEqual(bits.get(ranks));
    });
  }

  test("checkCalls: ranks that do not act alike are told so, all of them alike", async () => {
    const ended = await mpirun(mpi, 2, program.path, { args: ["mismatches"] });
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const [one, other] = jsonLines<{ said: [string, boolean][] }>(ended);
    expect(one!.said).toEqual(other!.said);
    expect(one!.said.map(([, again]) => again)).toEqual([true, true, true, true, true]);
    const got = one!.said.map(
      ([text]) => /CommunicationError: All ranks make the same calls.*; got (.*)\. Let/.exec(text)?.[1],
    );
    expect(got).toEqual([
      "allReduce sum of float64 [2] on rank 0, barrier on rank 1",
      "allReduce sum of float64 [2] on rank 0, allReduce sum of float64 [3] on rank 1",
      "allReduce sum of float64 [2] on rank 0, allReduce sum of float32 [2] on rank 1",
      "broadcast from rank 0 of float64 [1] on rank 0, broadcast from rank 1 of float64 [1] on rank 1",
      "allGather of uint8 on rank 0, allGather of int32 on rank 1",
    ]);
  });
});
