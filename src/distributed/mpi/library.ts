import type { Combination } from "../../base/communicator.js";
import { CommunicationError } from "../../base/errors.js";
import { heap } from "../../memory/heap.js";
import type { TypeName } from "../calls.js";
import { type Abi, abis, type Handle } from "./abi.js";
import type { TakeFile } from "./connection.js";

/** The loader of foreign functions, as far as it is used here. */
export interface Koffi {
  load(path: string, options?: { global?: boolean }): Library;
  address(pointer: unknown): bigint;
}

interface Library {
  func(name: string, result: string, args: readonly string[]): (...args: never[]) => number;
  symbol(name: string, type: string): unknown;
}

/** Where something lies in this process's memory, or one of the family's constants for such a place. */
type Address = number;
type Call<Args extends unknown[]> = (...args: Args) => number;

/** The functions that are used, as they are named in the standard. Results are error codes, 0 for none. */
export interface Functions {
  MPI_Get_library_version: Call<[text: Address, length: Address]>;
  MPI_Init_thread: Call<[argc: 0, argv: 0, required: number, provided: Address]>;
  MPI_Initialized: Call<[flag: Address]>;
  MPI_Finalized: Call<[flag: Address]>;
  MPI_Finalize: Call<[]>;
  MPI_Abort: Call<[comm: Handle, code: number]>;
  MPI_Error_string: Call<[code: number, text: Address, length: Address]>;
  MPI_Comm_set_errhandler: Call<[comm: Handle, handler: Handle]>;
  MPI_Comm_rank: Call<[comm: Handle, rank: Address]>;
  MPI_Comm_size: Call<[comm: Handle, size: Address]>;
  MPI_Comm_dup: Call<[comm: Handle, copy: Address]>;
  MPI_Comm_split: Call<[comm: Handle, color: number, key: number, part: Address]>;
  MPI_Comm_split_type: Call<[comm: Handle, type: number, key: number, info: Handle, part: Address]>;
  MPI_Ibarrier: Call<[comm: Handle, request: Address]>;
  MPI_Ibcast: Call<[data: Address, count: number, type: Handle, root: number, comm: Handle, request: Address]>;
  MPI_Iallreduce: Call<
    [send: Address, data: Address, count: number, type: Handle, op: Handle, comm: Handle, request: Address]
  >;
  MPI_Iallgather: Call<
    [
      ...[data: Address, count: number, type: Handle],
      ...[all: Address, count: number, type: Handle],
      ...[comm: Handle, request: Address],
    ]
  >;
  MPI_Iallgatherv: Call<
    [
      ...[data: Address, count: number, type: Handle],
      ...[all: Address, counts: Address, places: Address, type: Handle],
      ...[comm: Handle, request: Address],
    ]
  >;
  MPI_Ialltoallv: Call<
    [
      ...[data: Address, counts: Address, places: Address, type: Handle],
      ...[all: Address, counts: Address, places: Address, type: Handle],
      ...[comm: Handle, request: Address],
    ]
  >;
  MPI_Isend: Call<
    [data: Address, count: number, type: Handle, to: number, tag: number, comm: Handle, request: Address]
  >;
  MPI_Recv: Call<
    [data: Address, count: number, type: Handle, from: number, tag: number, comm: Handle, status: Address]
  >;
  MPI_Iprobe: Call<[from: number, tag: number, comm: Handle, flag: Address, status: Address]>;
  MPI_Test: Call<[request: Address, flag: Address, status: Address]>;
}

/** C types of the arguments: h a handle, i a whole number, p an address. */
const signatures: { readonly [Name in keyof Functions]: string } = {
  MPI_Get_library_version: "pp",
  MPI_Init_thread: "ppip",
  MPI_Initialized: "p",
  MPI_Finalized: "p",
  MPI_Finalize: "",
  MPI_Abort: "hi",
  MPI_Error_string: "ipp",
  MPI_Comm_set_errhandler: "hh",
  MPI_Comm_rank: "hp",
  MPI_Comm_size: "hp",
  MPI_Comm_dup: "hp",
  MPI_Comm_split: "hiip",
  MPI_Comm_split_type: "hiihp",
  MPI_Ibarrier: "hp",
  MPI_Ibcast: "pihihp",
  MPI_Iallreduce: "ppihhhp",
  MPI_Iallgather: "pihpihhp",
  MPI_Iallgatherv: "pihppphhp",
  MPI_Ialltoallv: "ppphppphhp",
  MPI_Isend: "pihiihp",
  MPI_Recv: "pihiihp",
  MPI_Iprobe: "iihpp",
  MPI_Test: "ppp",
};

function typesOf(signature: string, handle: Abi["handle"]): string[] {
  const types: Readonly<Record<string, string>> = { h: handle, i: "int", p: "intptr_t" };
  return [...signature].map((letter) => types[letter]!);
}

type SystemCall = (number: number, a: number, b: number, c: number) => number;
/** Linux's numbers, the same on every processor: pidfd_open(2) and, from 5.6 on, pidfd_getfd(2). */
const PIDFD_OPEN = 434;
const PIDFD_GETFD = 438;

/** The largest that either writes (MPI_MAX_LIBRARY_VERSION_STRING of MPICH). */
const TEXT_BYTES = 8192;

/** An MPI library that is loaded, with its family's constants looked up. What it reads and writes lies on the heap. */
export class Mpi {
  readonly abi: Abi;
  /** What the library says of itself. */
  readonly version: string;
  readonly call: Functions;
  readonly world: Handle;
  readonly errorsReturn: Handle;
  readonly nullInfo: Handle;
  readonly types: Readonly<Record<TypeName, Handle>>;
  readonly operations: Readonly<Record<Combination, Handle>>;
  /** Lets another process have the core, if one waits for it. */
  readonly yieldCore: () => void;
  readonly takeFile: TakeFile;
  private readonly library: Library;
  private buffer: ArrayBufferLike | null = null;
  private heapStart = 0;
  /** A place for what a call answers: a number, a handle. */
  private readonly answer = heap.address(heap.allocate(8));

  /** Throws what the loader throws where there is no such library, CommunicationError for one of a third family. */
  constructor(
    private readonly koffi: Koffi,
    readonly name: string,
  ) {
    // UCX, over which Debian's MPICH sends, watches the process's memory by patching malloc and its like. 3 of 48 short jobs died of a
    // segmentation fault with that, none of 96 without (MPICH 4.0.2, UCX 1.13, Node 20). It reads this when loaded.
    process.env.UCX_MEM_EVENTS ??= "no";
    // Open MPI loads its parts as plugins, which look for their symbols among the global ones.
    this.library = koffi.load(name, { global: true });
    this.version = this.askVersion();
    this.abi = familyOf(this.version, name);
    const { handle, world, errorsReturn, nullInfo, types, operations } = this.abi;
    this.call = Object.fromEntries(
      Object.entries(signatures).map(([symbol, args]) => [
        symbol,
        this.library.func(symbol, "int", typesOf(args, handle)),
      ]),
    ) as unknown as Functions;
    this.world = this.constant(world);
    this.errorsReturn = this.constant(errorsReturn);
    this.nullInfo = this.constant(nullInfo);
    this.types = this.constants(types);
    this.operations = this.constants(operations);
    this.yieldCore = this.library.func("sched_yield", "int", []);
    const syscall = this.library.func("syscall", "long", ["long", "long", "long", "long"]) as SystemCall;
    this.takeFile = (pid, file) => {
      const process = syscall(PIDFD_OPEN, pid, 0, 0);
      return process < 0 ? process : syscall(PIDFD_GETFD, process, file, 0);
    };
  }

  /** What native code calls a place in the heap. */
  address(ptr: number): number {
    const { buffer } = heap.memory;
    if (this.buffer !== buffer) {
      this.buffer = buffer;
      this.heapStart = Number(this.koffi.address(new Uint8Array(buffer)));
    }
    return this.heapStart + ptr;
  }

  /** The whole number that a function writes to the address that `ask` gets. */
  number(what: string, ask: (answer: number) => number): number {
    this.check(ask(this.address(this.answer)), what);
    return heap.words[this.answer / 4]!;
  }

  /** The handle that a function writes. */
  handle(what: string, ask: (answer: number) => number): Handle {
    const low = this.number(what, ask);
    return this.abi.handle === "int" ? low : (low >>> 0) + heap.words[this.answer / 4 + 1]! * 2 ** 32;
  }

  /** Whether a request, at this place in the heap, is complete. */
  test(request: number): boolean {
    const { call, abi } = this;
    const code = call.MPI_Test(this.address(request), this.address(this.answer), abi.ignoreStatus);
    if (code !== 0) this.check(code, "MPI_Test");
    return heap.words[this.answer / 4] !== 0;
  }

  /** Throws CommunicationError with the library's words for a code other than 0. */
  check(code: number, what: string): void {
    if (code === 0) return;
    const text = this.text((text, length) => this.call.MPI_Error_string(code, text, length));
    throw new CommunicationError({
      rule: `${what} over ${this.abi.name} must succeed`,
      got: text || `error ${code}`,
      fix: "Look for the first error among the ranks, and let all of them make the same calls with the same lengths",
    });
  }

  private constant(value: string | number): Handle {
    if (typeof value === "number") return value;
    return Number(this.koffi.address(this.library.symbol(value, "void")));
  }

  private constants<Name extends string>(values: Readonly<Record<Name, string | number>>): Record<Name, Handle> {
    const entries = Object.entries<string | number>(values).map(([name, value]) => [name, this.constant(value)]);
    return Object.fromEntries(entries);
  }

  private askVersion(): string {
    const ask = this.library.func("MPI_Get_library_version", "int", typesOf("pp", "int"));
    return this.text(ask as Functions["MPI_Get_library_version"]);
  }

  private text(ask: (text: number, length: number) => number): string {
    const block = heap.allocate(TEXT_BYTES);
    const ptr = heap.address(block);
    ask(this.address(ptr), this.address(this.answer));
    const length = heap.words[this.answer / 4]!;
    // Decoders refuse shared memory.
    const bytes = new Uint8Array(heap.memory.buffer, ptr, length).slice();
    heap.free(block);
    return new TextDecoder().decode(bytes);
  }
}

function familyOf(version: string, name: string): Abi {
  const family = /open\s*mpi/i.test(version)
    ? "Open MPI"
    : /mpich|mvapich|intel.*mpi|cray mpi/i.test(version)
      ? "MPICH"
      : null;
  const abi = abis.find((a) => a.name === family);
  if (abi) return abi;
  throw new CommunicationError({
    rule: "Ranks meet over Open MPI or a library with MPICH's binary interface",
    got: `${name}, which says of itself: ${version.split("\n")[0]}`,
    fix: "Install one of the two, or name its library in EVENKEEL_MPI_LIBRARY",
  });
}
