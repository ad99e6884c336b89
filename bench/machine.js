import { cpus, release, totalmem, type } from "node:os";

/** What figures depend on. */
export const machine = () => ({
  processor: `${cpus()[0].model.trim()}, ${cpus().length} cores`,
  memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
  system: `${type()} ${release()}`,
  node: `Node ${process.version}`,
  // What torch's and our BLAS take the processor for, where the environment says so.
  ...(process.env.OPENBLAS_CORETYPE ? { blas: `OPENBLAS_CORETYPE=${process.env.OPENBLAS_CORETYPE}` } : {}),
});
