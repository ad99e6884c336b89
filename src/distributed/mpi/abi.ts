import type { Combination } from "../../base/communicator.js";
import type { TypeName } from "../calls.js";

/** A communicator, type or operation of the library: a number of its own in MPICH, an address in Open MPI. */
export type Handle = number;

/**
 * What the two families of MPI libraries do differently: mpi.h's constants are not part of the standard before MPI 5.
 * MPICH's are those that it and its descendants (Intel MPI, MVAPICH, Cray) promised each other to keep; Open MPI's are
 * addresses of exported variables, alike in 4.x and 5.x.
 */
export interface Abi {
  readonly name: "Open MPI" | "MPICH";
  /** C type of a handle. */
  readonly handle: "intptr_t" | "int";
  /**
   * MPICH 4.0 over UCX and TCP waits in MPI_Finalize for what a rank in its own no longer answers: 17 of 20 jobs of two ranks on two machines never
   * ended. Its launcher takes ranks that leave it out for ended well; Open MPI's does not.
   */
  readonly finalizesOverNetworks: boolean;
  readonly inPlace: number;
  readonly ignoreStatus: number;
  readonly anySource: number;
  /** MPI_UNDEFINED: the color of a rank that joins no part. */
  readonly undefined: number;
  /** MPI_COMM_TYPE_SHARED. */
  readonly sharedMemory: number;
  readonly world: string | number;
  readonly errorsReturn: string | number;
  readonly nullInfo: string | number;
  readonly types: Readonly<Record<TypeName, string | number>>;
  readonly operations: Readonly<Record<Combination, string | number>>;
}

export const abis: readonly Abi[] = [
  {
    name: "Open MPI",
    handle: "intptr_t",
    finalizesOverNetworks: true,
    inPlace: 1,
    ignoreStatus: 0,
    anySource: -1,
    undefined: -32766,
    sharedMemory: 0,
    world: "ompi_mpi_comm_world",
    errorsReturn: "ompi_mpi_errors_return",
    nullInfo: "ompi_mpi_info_null",
    types: { float64: "ompi_mpi_double", float32: "ompi_mpi_float", int32: "ompi_mpi_int", uint8: "ompi_mpi_byte" },
    operations: { sum: "ompi_mpi_op_sum", max: "ompi_mpi_op_max", min: "ompi_mpi_op_min" },
  },
  {
    name: "MPICH",
    handle: "int",
    finalizesOverNetworks: false,
    inPlace: -1,
    ignoreStatus: 1,
    anySource: -2,
    undefined: -32766,
    sharedMemory: 1,
    world: 0x44000000,
    errorsReturn: 0x54000001,
    nullInfo: 0x1c000000,
    types: { float64: 0x4c00080b, float32: 0x4c00040a, int32: 0x4c000405, uint8: 0x4c00010d },
    operations: { sum: 0x58000003, max: 0x58000001, min: 0x58000002 },
  },
];
