import type { Combination, Communicator, Elements, GatherOptions, Numbers } from "../../base/communicator.js";
import { CommunicationError, OptionError } from "../../base/errors.js";
import { finished, type Pending } from "../../base/pending.js";
import { type Handle, typeNameOf } from "./abi.js";
import type { Mpi } from "./library.js";
import { Line } from "./line.js";

export interface GroupSettings {
  /** Seconds. */
  readonly timeout: number;
  /** Whether there are more ranks than cores on this machine. */
  readonly crowded: boolean;
  /** "ordered": by rank, in double. "library": as the MPI library likes, which may be sooner done with many ranks. */
  readonly sums: "ordered" | "library";
}

/** Bytes of all ranks' data together up to which each rank takes all of it rather than its part: one message instead of two. */
const WHOLE_BYTES = 1 << 16;

type Make<T> = new (length: number) => T;

/** A group of processes over MPI. Every call is made of the library's non-blocking ones, so that waiting can end. */
export class MpiCommunicator implements Communicator {
  readonly rank: number;
  readonly size: number;
  private readonly line: Line;
  /** For second parts of calls (see Line). */
  private readonly second: Handle;

  constructor(
    private readonly mpi: Mpi,
    private readonly comm: Handle,
    private readonly settings: GroupSettings,
  ) {
    mpi.check(mpi.call.MPI_Comm_set_errhandler(comm, mpi.errorsReturn), "MPI_Comm_set_errhandler");
    const number = new Int32Array(1);
    mpi.check(mpi.call.MPI_Comm_rank(comm, number), "MPI_Comm_rank");
    this.rank = number[0]!;
    mpi.check(mpi.call.MPI_Comm_size(comm, number), "MPI_Comm_size");
    this.size = number[0]!;
    const copy = mpi.room();
    mpi.check(mpi.call.MPI_Comm_dup(comm, copy), "MPI_Comm_dup");
    this.second = copy[0]!;
    const flag = new Int32Array(1);
    const { ignoreStatus } = mpi.abi;
    const test = (request: ArrayBufferView): boolean => {
      mpi.check(mpi.call.MPI_Test(request, flag, ignoreStatus), "MPI_Test");
      return flag[0] !== 0;
    };
    this.line = new Line({ room: () => mpi.room(), test }, settings.timeout, settings.crowded);
  }

  allReduce(data: Numbers, how: Combination): void {
    this.allReduceAsync(data, how).wait();
  }

  allReduceAsync(data: Numbers, how: Combination): Pending<void> {
    const { mpi, size, comm } = this;
    if (size === 1) return finished(undefined);
    const what = `allReduce ${how} of ${typeNameOf(data)} [${data.length}]`;
    const type = mpi.type(typeNameOf(data));
    if (this.settings.sums === "library" || data.length === 0) {
      const op = mpi.operation(how);
      const whole = (request: ArrayBufferView) =>
        mpi.check(
          mpi.call.MPI_Iallreduce(mpi.abi.inPlace, data, data.length, type, op, comm, request),
          "MPI_Iallreduce",
        );
      return this.line.begin(what, whole, null, () => {});
    }
    const make = data.constructor as Make<Numbers>;
    const combine = combinations[how];
    if (data.byteLength * size <= WHOLE_BYTES) {
      const all = new make(data.length * size);
      const gather = (request: ArrayBufferView) =>
        mpi.check(
          mpi.call.MPI_Iallgather(data, data.length, type, all, data.length, type, comm, request),
          "MPI_Iallgather",
        );
      return this.line.begin(what, gather, null, () => combine(all, data, size));
    }
    // Each rank combines a part of the elements of all ranks, and hands the result round.
    const { counts, places } = parts(data.length, size);
    const length = counts[this.rank]!;
    const own = new make(length);
    const all = new make(length * size);
    const alike = new Int32Array(size).fill(length);
    const alikePlaces = Int32Array.from({ length: size }, (_, r) => r * length);
    const scatter = (request: ArrayBufferView) =>
      mpi.check(
        mpi.call.MPI_Ialltoallv(data, counts, places, type, all, alike, alikePlaces, type, comm, request),
        "MPI_Ialltoallv",
      );
    const gather = (request: ArrayBufferView) => {
      combine(all, own, size);
      mpi.check(
        mpi.call.MPI_Iallgatherv(own, length, type, data, counts, places, type, this.second, request),
        "MPI_Iallgatherv",
      );
    };
    return this.line.begin(what, scatter, gather, () => {});
  }

  allGather<T extends Elements>(data: T, options?: GatherOptions): T[] {
    return this.allGatherAsync(data, options).wait();
  }

  allGatherAsync<T extends Elements>(data: T, { equalLengths = false }: GatherOptions = {}): Pending<T[]> {
    const { mpi, size, comm } = this;
    if (size === 1) return finished([data.slice() as T]);
    const what = `allGather of ${typeNameOf(data)}`;
    const type = mpi.type(typeNameOf(data));
    const make = data.constructor as Make<T>;
    if (equalLengths) {
      const all = new make(data.length * size);
      const gather = (request: ArrayBufferView) =>
        mpi.check(
          mpi.call.MPI_Iallgather(data, data.length, type, all, data.length, type, comm, request),
          "MPI_Iallgather",
        );
      const cut = (_: unknown, r: number) => all.slice(r * data.length, (r + 1) * data.length) as T;
      return this.line.begin(what, gather, null, () => Array.from({ length: size }, cut));
    }
    const int = mpi.type("int32");
    const own = Int32Array.of(data.length);
    const counts = new Int32Array(size);
    const places = new Int32Array(size);
    let all = new make(0);
    const lengths = (request: ArrayBufferView) =>
      mpi.check(mpi.call.MPI_Iallgather(own, 1, int, counts, 1, int, comm, request), "MPI_Iallgather");
    const gather = (request: ArrayBufferView) => {
      let total = 0;
      counts.forEach((n, r) => {
        places[r] = total;
        total += n;
      });
      all = new make(total);
      mpi.check(
        mpi.call.MPI_Iallgatherv(data, data.length, type, all, counts, places, type, this.second, request),
        "MPI_Iallgatherv",
      );
    };
    const cut = (_: unknown, r: number) => all.slice(places[r]!, places[r]! + counts[r]!) as T;
    return this.line.begin(what, lengths, gather, () => Array.from({ length: size }, cut));
  }

  broadcast(data: Elements, root: number): void {
    this.broadcastAsync(data, root).wait();
  }

  broadcastAsync(data: Elements, root: number): Pending<void> {
    const { mpi, size, comm } = this;
    if (!Number.isInteger(root) || root < 0 || root >= size) {
      throw new OptionError({ rule: `broadcast: root must be a rank from 0 to ${size - 1}`, got: String(root) });
    }
    if (size === 1) return finished(undefined);
    const type = mpi.type(typeNameOf(data));
    const send = (request: ArrayBufferView) =>
      mpi.check(mpi.call.MPI_Ibcast(data, data.length, type, root, comm, request), "MPI_Ibcast");
    return this.line.begin(`broadcast of ${typeNameOf(data)} [${data.length}]`, send, null, () => {});
  }

  barrier(): void {
    this.barrierAsync().wait();
  }

  barrierAsync(): Pending<void> {
    const { mpi, size, comm } = this;
    if (size === 1) return finished(undefined);
    const meet = (request: ArrayBufferView) => mpi.check(mpi.call.MPI_Ibarrier(comm, request), "MPI_Ibarrier");
    return this.line.begin("barrier", meet, null, () => {});
  }

  split(color: number | null): Communicator | null {
    if (color !== null && !(Number.isSafeInteger(color) && color >= 0 && color < 2 ** 31)) {
      throw new OptionError({ rule: "split: color is a whole number of 0 or more, or null", got: String(color) });
    }
    const { mpi, comm, rank } = this;
    this.barrier(); // which ends where a rank stays away, as the library's own waiting would not
    const part = mpi.room();
    const code = mpi.call.MPI_Comm_split(comm, color ?? mpi.abi.undefined, rank, part);
    mpi.check(code, "MPI_Comm_split");
    return color === null ? null : new MpiCommunicator(mpi, part[0]!, this.settings);
  }

  splitByNode(): Communicator {
    const { mpi, comm, rank } = this;
    this.barrier();
    const part = mpi.room();
    const code = mpi.call.MPI_Comm_split_type(comm, mpi.abi.sharedMemory, rank, mpi.nullInfo, part);
    mpi.check(code, "MPI_Comm_split_type");
    return new MpiCommunicator(mpi, part[0]!, this.settings);
  }

  abort(reason: string): void {
    this.line.break(
      new CommunicationError({
        rule: "A group that was given up is of no more use",
        got: `Rank ${this.rank} gave the group up: ${reason}`,
      }),
    );
    process.stderr.write(`evenkeel: rank ${this.rank} ends all ranks: ${reason}\n`);
    this.mpi.call.MPI_Abort(this.comm, 1);
  }
}

/** out = what `size` arrays of out's length, one behind the other, come to, element by element in their order. */
const combinations: Readonly<Record<Combination, (all: Numbers, out: Numbers, size: number) => void>> = {
  sum: (all, out, size) => {
    const { length } = out;
    for (let i = 0; i < length; i++) {
      let value = all[i]!;
      for (let r = 1; r < size; r++) value += all[r * length + i]!;
      out[i] = value;
    }
  },
  max: (all, out, size) => {
    const { length } = out;
    for (let i = 0; i < length; i++) {
      let value = all[i]!;
      for (let r = 1; r < size; r++) value = Math.max(value, all[r * length + i]!);
      out[i] = value;
    }
  },
  min: (all, out, size) => {
    const { length } = out;
    for (let i = 0; i < length; i++) {
      let value = all[i]!;
      for (let r = 1; r < size; r++) value = Math.min(value, all[r * length + i]!);
      out[i] = value;
    }
  },
};

/** `length` elements in `size` parts that differ by one at most, and where each begins. */
function parts(length: number, size: number): { counts: Int32Array; places: Int32Array } {
  const place = (r: number) => Math.floor((r * length) / size);
  const places = Int32Array.from({ length: size }, (_, r) => place(r));
  return { counts: places.map((at, r) => place(r + 1) - at), places };
}
