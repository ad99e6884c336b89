import type { Combination, Communicator, Elements, GatherOptions, Numbers } from "../../base/communicator.js";
import { CommunicationError, OptionError } from "../../base/errors.js";
import { finished, type Pending } from "../../base/pending.js";
import { combine } from "../../kernels/wasm/combine.js";
import { heap, partOf, type Slot } from "../../memory/heap.js";
import { differing, HEADER_BYTES, type Header, readHeader, typeOf, writeHeader } from "../calls.js";
import type { Handle } from "./abi.js";
import { Farewell } from "./farewell.js";
import type { Mpi } from "./library.js";
import type { Lifetime } from "./lifetime.js";
import { Line, type Steps } from "./line.js";
import { elementsAt, Staging } from "./staging.js";

export interface GroupSettings {
  /** Seconds. */
  readonly timeout: number;
  /** "ordered": by rank, in double. "library": as the MPI library likes, which may be sooner done with many ranks. */
  readonly sums: "ordered" | "library";
  /** Whether ranks compare their calls before they make them. */
  readonly checkCalls: boolean;
}

/**
 * Bytes of a rank up to which each takes the data of all rather than its part of it: fewer messages, of which none waits for as many others as there
 * are ranks. That is what a network carries in the time for which it keeps a message waiting: 30 us at 10 Gbit/s, 3 us at 100.
 */
const WHOLE_BYTES = 1 << 15;

/** A group of processes over MPI. Every call is made of the library's non-blocking ones, so that waiting can end. */
export class MpiCommunicator implements Communicator {
  readonly rank: number;
  readonly size: number;
  private readonly line: Line;
  /** For second parts of calls (see Line) and farewells. */
  private readonly second: Handle;

  constructor(
    private readonly mpi: Mpi,
    private readonly lifetime: Lifetime,
    private readonly comm: Handle,
    private readonly settings: GroupSettings,
  ) {
    const { call } = mpi;
    mpi.check(call.MPI_Comm_set_errhandler(comm, mpi.errorsReturn), "MPI_Comm_set_errhandler");
    this.rank = mpi.number("MPI_Comm_rank", (answer) => call.MPI_Comm_rank(comm, answer));
    this.size = mpi.number("MPI_Comm_size", (answer) => call.MPI_Comm_size(comm, answer));
    this.second = mpi.handle("MPI_Comm_dup", (answer) => call.MPI_Comm_dup(comm, answer));
    const farewell = new Farewell(mpi, this.second, this.rank, this.size);
    const surroundings = {
      test: (request: number) => mpi.test(request),
      yieldCore: mpi.yieldCore,
      checkRanks: (number: number) => farewell.check(number),
      checkLauncher: () => lifetime.checkLauncher(),
    };
    this.line = new Line(surroundings, settings.timeout);
    lifetime.add({ line: this.line, farewell }, this.rank, this.size);
  }

  allReduce(data: Numbers, how: Combination): void {
    this.allReduceAsync(data, how).wait();
  }

  allReduceAsync(data: Numbers, how: Combination): Pending<void> {
    const { size } = this;
    this.lifetime.check();
    if (size === 1) return finished(undefined);
    const bytes = data.byteLength;
    const whole = bytes <= WHOLE_BYTES;
    // The parts of the others, each as long as the longest.
    const incoming = whole ? bytes : Math.ceil(data.length / size) * data.BYTES_PER_ELEMENT;
    const words = whole ? 0 : 4 * size;
    const staging = new Staging(heap.holds(data) ? 0 : bytes, words, words, words, words, words, incoming * size);
    const dtype = typeOf(data) as "float32" | "float64";
    const slot = { ptr: placed(data, staging), length: data.length, dtype };
    if (this.settings.sums === "library") return this.reduceByLibrary(data, how, slot, staging);
    return whole ? this.reduceWhole(data, how, slot, staging) : this.reduceInParts(data, how, slot, staging);
  }

  private reduceByLibrary(data: Numbers, how: Combination, slot: Slot, staging: Staging): Pending<void> {
    const { mpi, comm } = this;
    const [type, op] = [mpi.types[typeOf(data)], mpi.operations[how]];
    return this.begin({
      header: header(`allReduce ${how}`, data),
      sameLength: true,
      staging,
      first: () => {
        const [at, request] = [mpi.address(slot.ptr), mpi.address(staging.request)];
        const code = mpi.call.MPI_Iallreduce(mpi.abi.inPlace, at, slot.length, type, op, comm, request);
        mpi.check(code, "MPI_Iallreduce");
      },
      result: () => takeBack(slot.ptr, data),
    });
  }

  /** Each rank gets all data and combines it. */
  private reduceWhole(data: Numbers, how: Combination, slot: Slot, staging: Staging): Pending<void> {
    const { mpi, comm, size } = this;
    const { length, dtype } = slot;
    const type = mpi.types[typeOf(data)];
    const all: Slot = { ptr: staging.take(data.byteLength * size), length: length * size, dtype };
    return this.begin({
      header: header(`allReduce ${how}`, data),
      sameLength: true,
      staging,
      first: () => {
        const [from, to] = [mpi.address(slot.ptr), mpi.address(all.ptr)];
        const code = mpi.call.MPI_Iallgather(from, length, type, to, length, type, comm, mpi.address(staging.request));
        mpi.check(code, "MPI_Iallgather");
      },
      result: () => {
        const parts = Array.from({ length: size }, (_, r) => partOf(all, r * length, length));
        combine(how, parts, slot);
        takeBack(slot.ptr, data);
      },
    });
  }

  /** Each rank combines a part of the elements of all ranks, and hands the result round. */
  private reduceInParts(data: Numbers, how: Combination, slot: Slot, staging: Staging): Pending<void> {
    const { mpi, comm, rank, size } = this;
    const type = mpi.types[typeOf(data)];
    const { counts, places } = parts(slot.length, size);
    const length = counts[rank]!;
    const own = partOf(slot, places[rank]!, length);
    // What a rank has itself is not sent.
    const sent = counts.map((n, r) => (r === rank ? 0 : n));
    const got = counts.map((_, r) => (r === rank ? 0 : length));
    const [countWords, placeWords] = [staging.takeWords(counts), staging.takeWords(places)];
    const [sentWords, gotWords] = [staging.takeWords(sent), staging.takeWords(got)];
    const gotPlaces = staging.takeWords(counts.map((_, r) => r * length));
    const all: Slot = {
      ptr: staging.take(length * size * data.BYTES_PER_ELEMENT),
      length: length * size,
      dtype: slot.dtype,
    };
    return this.begin({
      header: header(`allReduce ${how}`, data),
      sameLength: true,
      staging,
      first: () => {
        const from = [mpi.address(slot.ptr), mpi.address(sentWords), mpi.address(placeWords), type] as const;
        const to = [mpi.address(all.ptr), mpi.address(gotWords), mpi.address(gotPlaces), type] as const;
        mpi.check(mpi.call.MPI_Ialltoallv(...from, ...to, comm, mpi.address(staging.request)), "MPI_Ialltoallv");
      },
      second: () => {
        const parts = Array.from({ length: size }, (_, r) => (r === rank ? own : partOf(all, r * length, length)));
        combine(how, parts, own);
        const to = [mpi.address(slot.ptr), mpi.address(countWords), mpi.address(placeWords), type] as const;
        const request = mpi.address(staging.request);
        const code = mpi.call.MPI_Iallgatherv(mpi.abi.inPlace, 0, type, ...to, this.second, request);
        mpi.check(code, "MPI_Iallgatherv");
      },
      result: () => takeBack(slot.ptr, data),
    });
  }

  allGather<T extends Elements>(data: T, options?: GatherOptions): T[] {
    return this.allGatherAsync(data, options).wait();
  }

  allGatherAsync<T extends Elements>(data: T, { equalLengths = false }: GatherOptions = {}): Pending<T[]> {
    const { mpi, size, comm } = this;
    this.lifetime.check();
    if (size === 1) return finished([data.slice() as T]);
    const name = typeOf(data);
    const type = mpi.types[name];
    const copy = (ptr: number, length: number) => elementsAt(name, ptr, length).slice() as T;
    const { length, byteLength } = data;
    const sizes = equalLengths ? byteLength * size : 4 * size;
    const staging = new Staging(heap.holds(data) ? 0 : byteLength, 4, sizes, 4 * size);
    const ptr = placed(data, staging);
    if (equalLengths) {
      const all = staging.take(byteLength * size);
      return this.begin({
        header: header("allGather of equal lengths", data),
        sameLength: true,
        staging,
        first: () => {
          const [from, to] = [mpi.address(ptr), mpi.address(all)];
          const request = mpi.address(staging.request);
          mpi.check(mpi.call.MPI_Iallgather(from, length, type, to, length, type, comm, request), "MPI_Iallgather");
        },
        result: () => Array.from({ length: size }, (_, r) => copy(all + r * byteLength, length)),
      });
    }
    const { int32 } = mpi.types;
    const own = staging.takeWords([length]);
    const [counts, places] = [staging.take(4 * size), staging.take(4 * size)];
    let all: Staging | null = null;
    return this.begin({
      header: header("allGather", data),
      sameLength: false,
      staging,
      first: () => {
        const [from, to] = [mpi.address(own), mpi.address(counts)];
        const code = mpi.call.MPI_Iallgather(from, 1, int32, to, 1, int32, comm, mpi.address(staging.request));
        mpi.check(code, "MPI_Iallgather");
      },
      second: () => {
        let total = 0;
        for (let r = 0; r < size; r++) {
          heap.words[places / 4 + r] = total;
          total += heap.words[counts / 4 + r]!;
        }
        all = new Staging(total * data.BYTES_PER_ELEMENT);
        const to = [mpi.address(all.take(0)), mpi.address(counts), mpi.address(places), type] as const;
        const from = [mpi.address(ptr), length, type] as const;
        const code = mpi.call.MPI_Iallgatherv(...from, ...to, this.second, mpi.address(staging.request));
        mpi.check(code, "MPI_Iallgatherv");
      },
      result: () => {
        let at = all!.take(0);
        const result = Array.from({ length: size }, (_, r) => {
          const part = copy(at, heap.words[counts / 4 + r]!);
          at += part.byteLength;
          return part;
        });
        all!.free();
        return result;
      },
    });
  }

  broadcast(data: Elements, root: number): void {
    this.broadcastAsync(data, root).wait();
  }

  broadcastAsync(data: Elements, root: number): Pending<void> {
    const { mpi, size, comm } = this;
    this.lifetime.check();
    if (!Number.isInteger(root) || root < 0 || root >= size) {
      throw new OptionError({ rule: `broadcast: root must be a rank from 0 to ${size - 1}`, got: String(root) });
    }
    if (size === 1) return finished(undefined);
    const type = mpi.types[typeOf(data)];
    const staging = new Staging(heap.holds(data) ? 0 : data.byteLength);
    const ptr = placed(data, staging);
    return this.begin({
      header: header(`broadcast from rank ${root}`, data),
      sameLength: true,
      staging,
      first: () => {
        const [at, request] = [mpi.address(ptr), mpi.address(staging.request)];
        mpi.check(mpi.call.MPI_Ibcast(at, data.length, type, root, comm, request), "MPI_Ibcast");
      },
      result: () => takeBack(ptr, data),
    });
  }

  barrier(): void {
    this.barrierAsync().wait();
  }

  barrierAsync(): Pending<void> {
    const { mpi, size, comm } = this;
    this.lifetime.check();
    if (size === 1) return finished(undefined);
    const staging = new Staging();
    return this.begin({
      header: BARRIER,
      sameLength: true,
      staging,
      first: () => mpi.check(mpi.call.MPI_Ibarrier(comm, mpi.address(staging.request)), "MPI_Ibarrier"),
      result: () => {},
    });
  }

  private begin<T>(steps: Steps<T>): Pending<T> {
    if (this.settings.checkCalls) this.compare(steps.header, steps.sameLength);
    return this.line.begin(steps);
  }

  /** Waits for the header of every rank's next call. */
  private compare(own: Header, sameLength: boolean): void {
    const { mpi, comm, size } = this;
    const { uint8 } = mpi.types;
    const staging = new Staging(HEADER_BYTES, HEADER_BYTES * size);
    const [from, all] = [staging.take(HEADER_BYTES), staging.take(HEADER_BYTES * size)];
    writeHeader(heap.memory.buffer, from, own);
    const gathered = this.line.begin({
      header: own,
      sameLength,
      staging,
      first: () => {
        const [at, to] = [mpi.address(from), mpi.address(all)];
        const request = mpi.address(staging.request);
        const code = mpi.call.MPI_Iallgather(at, HEADER_BYTES, uint8, to, HEADER_BYTES, uint8, comm, request);
        mpi.check(code, "MPI_Iallgather");
      },
      result: () => Array.from({ length: size }, (_, r) => readHeader(heap.memory.buffer, all + r * HEADER_BYTES)),
    });
    const error = differing(gathered.wait(), sameLength);
    if (!error) return;
    this.line.break(error);
    throw error;
  }

  split(color: number | null): Communicator | null {
    if (color !== null && !(Number.isSafeInteger(color) && color >= 0 && color < 2 ** 31)) {
      throw new OptionError({ rule: "split: color is a whole number of 0 or more, or null", got: String(color) });
    }
    const { mpi, comm, rank } = this;
    this.barrier(); // which ends where a rank stays away, as the library's own waiting would not
    const key = color ?? mpi.abi.undefined;
    const part = mpi.handle("MPI_Comm_split", (answer) => mpi.call.MPI_Comm_split(comm, key, rank, answer));
    return color === null ? null : new MpiCommunicator(mpi, this.lifetime, part, this.settings);
  }

  splitByNode(): Communicator {
    const { mpi, comm, rank } = this;
    this.barrier();
    const part = mpi.handle("MPI_Comm_split_type", (answer) =>
      mpi.call.MPI_Comm_split_type(comm, mpi.abi.sharedMemory, rank, mpi.nullInfo, answer),
    );
    return new MpiCommunicator(mpi, this.lifetime, part, this.settings);
  }

  abort(reason: string): void {
    this.line.break(
      new CommunicationError({
        rule: "A group that was given up is of no more use",
        got: `Rank ${this.rank} gave the group up: ${reason}`,
      }),
    );
    this.lifetime.abort(reason);
  }
}

/** Where the library finds `data`: on the heap, where it is already or is copied to. */
function placed(data: Elements, staging: Staging): number {
  if (heap.holds(data)) return data.byteOffset;
  const ptr = staging.take(data.byteLength);
  elementsAt(typeOf(data), ptr, data.length).set(data);
  return ptr;
}

/** Copies what lies on the heap to where the caller wants it. */
function takeBack(ptr: number, data: Elements): void {
  if (!heap.holds(data)) data.set(elementsAt(typeOf(data), ptr, data.length));
}

const header = (call: string, data: Elements): Header => ({ call, type: typeOf(data), length: data.length });
const BARRIER: Header = { call: "barrier", type: "float64", length: 0 };

/** `length` elements in `size` parts that differ by one at most, and where each begins. */
function parts(length: number, size: number): { counts: Int32Array; places: Int32Array } {
  const place = (r: number) => Math.floor((r * length) / size);
  const places = Int32Array.from({ length: size }, (_, r) => place(r));
  return { counts: places.map((at, r) => place(r + 1) - at), places };
}
