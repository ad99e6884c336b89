import { cpus } from "node:os";
import { isMainThread } from "node:worker_threads";
import { type Communicator, loopback } from "../base/communicator.js";
import { CommunicationError, StateError } from "../base/errors.js";
import { checkBoolean, checkChoice, checkNumber, readOptions } from "../base/options.js";
import { setDefaultThreads } from "../kernels/threads/pool.js";
import { setLeaving } from "./finalize.js";
import { restoreConnection } from "./mpi/connection.js";
import { findMpi } from "./mpi/find_node.js";
import { launchedBy } from "./mpi/launcher.js";
import { Lifetime } from "./mpi/lifetime.js";
import { MpiCommunicator } from "./mpi/mpi_communicator.js";

export interface DistributedOptions {
  /**
   * Seconds that a call waits for the other ranks before it throws CommunicationError. Default 600. Where they do not start within that
   * (and a minute at least), initDistributed ends the process.
   */
  readonly timeout?: number;
  /**
   * How numbers of all ranks are added up. "ordered" (default): by rank and in double, the same bits with either library on any
   * layout of machines. "library": by the MPI library's own all-reduce.
   */
  readonly sums?: "ordered" | "library";
  /**
   * Compares the call of every rank, its type and length, before it is made, so that ranks which do not act alike all throw at once and
   * say how. Costs a message each, and ...Async calls wait for it. Default false: such ranks end by `timeout`, or with wrong numbers.
   */
  readonly checkCalls?: boolean;
}

let world: Communicator | null = null;

/**
 * The ranks of this job: those that mpirun (or srun) started, over Open MPI 4 or 5 or MPICH, whichever started them. Where nothing started
 * several, `loopback`. A second call gives the same communicator. Needs koffi. Until the program says setThreads, kernels use as many
 * threads as there are cores for each rank of this machine.
 * Throws CommunicationError where a launcher started several ranks that cannot meet: no library, or one of the other family;
 * StateError in a worker thread.
 */
export function initDistributed(options?: DistributedOptions): Communicator {
  const o = readOptions("initDistributed", options, {
    timeout: 600,
    sums: "ordered" as "ordered" | "library",
    checkCalls: false,
  });
  checkNumber("initDistributed: timeout", o.timeout, "a number of seconds above 0", (v) => v > 0);
  checkChoice("initDistributed: sums", o.sums, ["ordered", "library"]);
  checkBoolean("initDistributed: checkCalls", o.checkCalls);
  if (world) {
    if (options === undefined) return world;
    throw new StateError({ rule: "Options of initDistributed are given with its first call", got: "a later one" });
  }
  world = open(o);
  return world;
}

function open(settings: Required<DistributedOptions>): Communicator {
  const launched = launchedBy(process.env);
  if (!launched) return loopback;
  if (!isMainThread) {
    throw new StateError({
      rule: "A rank is a process, and calls MPI from its main thread",
      got: "initDistributed in a worker",
      fix: "Call it on the main thread; ranks that are threads meet by sharedGroup",
    });
  }
  const mpi = findMpi(launched.family, process.env.EVENKEEL_MPI_LIBRARY);
  if ("reason" in mpi) {
    if (launched.size === 1) return loopback;
    throw new CommunicationError({
      rule: `The ${launched.size} ranks that ${launched.by} started meet over an MPI library`,
      got: mpi.reason,
    });
  }
  restoreConnection(process.env, mpi.takeFile);
  const lifetime = new Lifetime(mpi, launched, settings.timeout);
  setLeaving(() => lifetime.end(0));
  const all = new MpiCommunicator(mpi, lifetime, mpi.world, settings);
  if (launched.here ? all.size < launched.size : all.size !== launched.size) {
    throw new CommunicationError({
      rule: `${launched.by} started ${launched.size} ranks, which must find each other`,
      got: `a world of ${all.size} in ${mpi.name} (${mpi.version.split("\n")[0]})`,
      fix: "Start the ranks with the launcher of that library (srun: --mpi=pmix or pmi2), or name the launcher's library in EVENKEEL_MPI_LIBRARY",
    });
  }
  const onNode = all.splitByNode().size;
  if (onNode < all.size) lifetime.overSeveralNodes();
  setDefaultThreads(Math.max(1, Math.floor(cpus().length / onNode)));
  return all;
}
