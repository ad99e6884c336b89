import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, type launchers } from "../../bench/scaling/launch.js";
import { openNetwork, whyNoNetwork } from "../../bench/scaling/namespaces.js";
import { bundle, describeMpi, type Program } from "./mpirun.js";

interface Said {
  readonly rank: number;
  readonly size: number;
  readonly host: string;
  /** Ranks on this rank's node. */
  readonly beside: number;
  /** Of a barrier. */
  readonly milliseconds: number;
  readonly bits: string;
}

const families = { "Open MPI": "openmpi", MPICH: "mpich" } as const satisfies Record<string, keyof typeof launchers>;
const reason = whyNoNetwork();

let program: Program;
beforeAll(async () => {
  if (!reason) program = await bundle("./network_jobs.ts");
}, 60_000);
afterAll(() => program?.dispose());

/** What the ranks said, by rank. */
async function results(mpi: keyof typeof launchers, network: ReturnType<typeof openNetwork> | null): Promise<Said[]> {
  const { code, output } = await launch(mpi, 2, [program.path], { network, timeout: 50 });
  expect(code, output).toBe(0);
  const lines = output.split("\n").filter((line: string) => line.startsWith("{"));
  return lines.map((line: string) => JSON.parse(line) as Said).sort((a: Said, b: Said) => a.rank - b.rank);
}

const namespaces = (): string => spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout;

describe.skipIf(reason)(`across two network namespaces${reason ? ` (not here: ${reason})` : ""}`, () => {
  describeMpi("ranks", ({ name }) => {
    const mpi = families[name as keyof typeof families];

    test("find each other over TCP, and have the bits of ranks that share memory, also over a slow link", async () => {
      const together = await results(mpi, null);
      expect(together.map(({ beside, bits }) => [beside, bits])).toEqual(Array(2).fill([2, together[0]!.bits]));
      for (const link of [{}, { bitsPerSecond: 1e9, delay: 0.002 }]) {
        const network = openNetwork(link);
        try {
          const apart = await results(mpi, network);
          expect(apart.map(({ size, beside, bits }) => [size, beside, bits])).toEqual(
            Array(2).fill([2, 1, together[0]!.bits]),
          );
          expect(new Set(apart.map(({ host }) => host)).size).toBe(2);
          // Otherwise they would have met on another way than the link. Four of the five barriers begin after one that took the delay.
          if (link.delay) for (const { milliseconds } of apart) expect(milliseconds).toBeGreaterThan(800 * link.delay);
        } finally {
          network.close();
        }
      }
    }, 60_000);
  });

  test("nothing is left of a network that was closed, or that could not be made", () => {
    const before = namespaces();
    const network = openNetwork({ delay: 0.001 });
    expect(namespaces()).not.toBe(before);
    network.close();
    expect(namespaces()).toBe(before);
    expect(() => openNetwork({ bitsPerSecond: -1 })).toThrow("tc");
    expect(namespaces()).toBe(before);
  });
});
