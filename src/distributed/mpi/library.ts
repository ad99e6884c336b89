import type { Combination } from "../../base/communicator.js";
import { CommunicationError } from "../../base/errors.js";
import { type Abi, abis, type Handle, type TypeName } from "./abi.js";

/** The loader of foreign functions, as far as it is used here. */
export interface Koffi {
  load(path: string, options?: { global?: boolean }): Library;
  address(pointer: unknown): bigint;
}

interface Library {
  func(name: string, result: string, args: readonly string[]): (...args: never[]) => number;
  symbol(name: string, type: string): unknown;
}

type Buffer = ArrayBufferView | null;
type Call<Args extends unknown[]> = (...args: Args) => number;

/** The functions that are used, as they are named in the standard. Results are error codes, 0 for none. */
export interface Functions {
  MPI_Get_library_version: Call<[text: Buffer, length: Buffer]>;
  MPI_Init_thread: Call<[argc: null, argv: null, required: number, provided: Buffer]>;
  MPI_Initialized: Call<[flag: Buffer]>;
  MPI_Finalize: Call<[]>;
  MPI_Abort: Call<[comm: Handle, code: number]>;
  MPI_Error_string: Call<[code: number, text: Buffer, length: Buffer]>;
  MPI_Comm_set_errhandler: Call<[comm: Handle, handler: Handle]>;
  MPI_Comm_rank: Call<[comm: Handle, rank: Buffer]>;
  MPI_Comm_size: Call<[comm: Handle, size: Buffer]>;
  MPI_Comm_dup: Call<[comm: Handle, copy: Buffer]>;
  MPI_Comm_split: Call<[comm: Handle, color: number, key: number, part: Buffer]>;
  MPI_Comm_split_type: Call<[comm: Handle, type: number, key: number, info: Handle, part: Buffer]>;
  MPI_Ibarrier: Call<[comm: Handle, request: Buffer]>;
  MPI_Ibcast: Call<[data: Buffer, count: number, type: Handle, root: number, comm: Handle, request: Buffer]>;
  MPI_Iallreduce: Call<
    [send: number, data: Buffer, count: number, type: Handle, op: Handle, comm: Handle, request: Buffer]
  >;
  MPI_Iallgather: Call<
    [
      ...[data: Buffer, count: number, type: Handle],
      ...[all: Buffer, counts: number, type: Handle],
      ...[comm: Handle, request: Buffer],
    ]
  >;
  MPI_Iallgatherv: Call<
    [
      ...[data: Buffer, count: number, type: Handle],
      ...[all: Buffer, counts: Buffer, places: Buffer, type: Handle],
      ...[comm: Handle, request: Buffer],
    ]
  >;
  MPI_Ialltoallv: Call<
    [
      ...[data: Buffer, counts: Buffer, places: Buffer, type: Handle],
      ...[all: Buffer, counts: Buffer, places: Buffer, type: Handle],
      ...[comm: Handle, request: Buffer],
    ]
  >;
  MPI_Test: Call<[request: Buffer, flag: Buffer, status: number]>;
}

const signatures = (h: Abi["handle"]): { readonly [Name in keyof Functions]: readonly string[] } => ({
  MPI_Get_library_version: ["void*", "void*"],
  MPI_Init_thread: ["void*", "void*", "int", "void*"],
  MPI_Initialized: ["void*"],
  MPI_Finalize: [],
  MPI_Abort: [h, "int"],
  MPI_Error_string: ["int", "void*", "void*"],
  MPI_Comm_set_errhandler: [h, h],
  MPI_Comm_rank: [h, "void*"],
  MPI_Comm_size: [h, "void*"],
  MPI_Comm_dup: [h, "void*"],
  MPI_Comm_split: [h, "int", "int", "void*"],
  MPI_Comm_split_type: [h, "int", "int", h, "void*"],
  MPI_Ibarrier: [h, "void*"],
  MPI_Ibcast: ["void*", "int", h, "int", h, "void*"],
  MPI_Iallreduce: ["intptr_t", "void*", "int", h, h, h, "void*"],
  MPI_Iallgather: ["void*", "int", h, "void*", "int", h, h, "void*"],
  MPI_Iallgatherv: ["void*", "int", h, "void*", "void*", "void*", h, h, "void*"],
  MPI_Ialltoallv: ["void*", "void*", "void*", h, "void*", "void*", "void*", h, h, "void*"],
  MPI_Test: ["void*", "void*", "intptr_t"],
});

/** The largest that either family writes (MPI_MAX_LIBRARY_VERSION_STRING of MPICH). */
const VERSION_BYTES = 8192;
const ERROR_BYTES = 512;

/** An MPI library that is loaded, with its family's constants looked up. */
export class Mpi {
  readonly abi: Abi;
  /** What the library says of itself, its first line. */
  readonly version: string;
  readonly call: Functions;
  readonly world: Handle;
  readonly errorsReturn: Handle;
  readonly nullInfo: Handle;
  private readonly library: Library;
  private readonly typeHandles: Readonly<Record<TypeName, Handle>>;
  private readonly operations: Readonly<Record<Combination, Handle>>;

  /** Throws what the loader throws where there is no such library, CommunicationError for one of a third family. */
  constructor(
    readonly koffi: Koffi,
    readonly name: string,
  ) {
    // Open MPI loads its parts as plugins, which look for their symbols among the global ones.
    this.library = koffi.load(name, { global: true });
    this.version = this.askVersion();
    this.abi = familyOf(this.version, name);
    const { handle, world, errorsReturn, nullInfo, types, operations } = this.abi;
    this.call = Object.fromEntries(
      Object.entries(signatures(handle)).map(([symbol, args]) => [symbol, this.library.func(symbol, "int", args)]),
    ) as unknown as Functions;
    this.world = this.constant(world);
    this.errorsReturn = this.constant(errorsReturn);
    this.nullInfo = this.constant(nullInfo);
    this.typeHandles = this.constants(types);
    this.operations = this.constants(operations);
  }

  type(name: TypeName): Handle {
    return this.typeHandles[name];
  }

  operation(how: Combination): Handle {
    return this.operations[how];
  }

  /** Room for a handle that the library gives. */
  room(): BigInt64Array | Int32Array {
    return this.abi.handleBytes === 8 ? new BigInt64Array(1) : new Int32Array(1);
  }

  /** Throws CommunicationError with the library's words for a code other than 0. */
  check(code: number, what: string): void {
    if (code === 0) return;
    const text = new Uint8Array(ERROR_BYTES);
    const length = new Int32Array(1);
    this.call.MPI_Error_string(code, text, length);
    throw new CommunicationError({
      rule: `${what} over ${this.abi.name} must succeed`,
      got: new TextDecoder().decode(text.subarray(0, length[0])) || `error ${code}`,
      fix: "Look for the first error among the ranks, and let all of them make the same calls with the same lengths",
    });
  }

  private constant(value: string | number): Handle {
    if (typeof value === "number") return value;
    return this.koffi.address(this.library.symbol(value, "void"));
  }

  private constants<Name extends string>(values: Readonly<Record<Name, string | number>>): Record<Name, Handle> {
    const entries = Object.entries<string | number>(values).map(([name, value]) => [name, this.constant(value)]);
    return Object.fromEntries(entries);
  }

  private askVersion(): string {
    const ask = this.library.func("MPI_Get_library_version", "int", ["void*", "void*"]) as unknown as Call<
      [Buffer, Buffer]
    >;
    const text = new Uint8Array(VERSION_BYTES);
    const length = new Int32Array(1);
    ask(text, length);
    return new TextDecoder().decode(text.subarray(0, length[0]));
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
