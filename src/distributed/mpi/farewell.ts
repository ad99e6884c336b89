import { CommunicationError } from "../../base/errors.js";
import { heap } from "../../memory/heap.js";
import type { Handle } from "./abi.js";
import type { Mpi } from "./library.js";
import { Staging } from "./staging.js";

/** Of messages between two ranks; collective calls never meet these. */
const TAG = 1;

/**
 * How ranks of a group learn that one has left: it sends each other one a message, with the number of calls it took part in. Who
 * waits long for a later call then knows that it will never come; the library itself would wait for ever.
 */
export class Farewell {
  /** Calls of each rank that has left. */
  private readonly left = new Map<number, number>();
  private sent: Staging | null = null;
  private readonly received = new Staging(8);
  private readonly ptr = this.received.take(8);

  constructor(
    private readonly mpi: Mpi,
    private readonly comm: Handle,
    private readonly rank: number,
    private readonly size: number,
  ) {}

  /** Tells the other ranks that this one has begun `calls` calls, and begins no more. */
  send(calls: number): void {
    const { mpi, comm, rank, size } = this;
    this.sent = new Staging(8, 8 * size);
    const message = mpi.address(this.sent.takeWords([rank, calls]));
    const requests = mpi.address(this.sent.take(8 * size));
    for (let to = 0; to < size; to++) {
      if (to === rank) continue;
      mpi.check(mpi.call.MPI_Isend(message, 2, mpi.types.int32, to, TAG, comm, requests + 8 * to), "MPI_Isend");
    }
  }

  /** Takes the messages that have come. */
  look(): void {
    const { mpi, comm, ptr } = this;
    const { anySource, ignoreStatus } = mpi.abi;
    const probe = (flag: number) => mpi.call.MPI_Iprobe(anySource, TAG, comm, flag, ignoreStatus);
    while (mpi.number("MPI_Iprobe", probe)) {
      const to = mpi.address(ptr);
      mpi.check(mpi.call.MPI_Recv(to, 2, mpi.types.int32, anySource, TAG, comm, ignoreStatus), "MPI_Recv");
      this.left.set(heap.words[ptr / 4]!, heap.words[ptr / 4 + 1]!);
    }
  }

  /** Whether all others have left, too. */
  get complete(): boolean {
    return this.left.size === this.size - 1;
  }

  /** Throws where a rank has left before the call with this number. */
  check(call: number): void {
    this.look();
    const gone = [...this.left].filter(([, calls]) => calls <= call).map(([rank]) => rank);
    if (gone.length === 0) return;
    throw new CommunicationError({
      rule: "All ranks of a group make the same calls, none leaves before",
      got: `the end of rank ${gone.sort((a, b) => a - b).join(", ")}, for whose next call rank ${this.rank} waits`,
      fix: "Let all ranks take as many steps; a rank without data takes part with an empty batch",
    });
  }
}
