import { type Communicator, loopback } from "../base/communicator.js";

/** There is no MPI in a browser: one rank, or threads by sharedGroup. */
export const initDistributed = (): Communicator => loopback;
